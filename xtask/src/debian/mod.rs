//! Debian packages as a source of files: find them in a suite's signed index, fetch them by checksum.
//!
//! Nothing here installs anything; that is [`crate::provision::apt`].

pub(crate) mod index;
pub(crate) mod mirror;
pub(crate) mod version;

pub(crate) use index::Package;
pub(crate) use mirror::Mirror;
