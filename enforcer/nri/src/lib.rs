//! How containerd and CRI-O have their containers admitted: a plugin of their node resource interface (NRI).
//!
//! [`plugin`] is the conversation: what the runtime says of a container is put to the daemon, and the daemon's refusal is
//! the runtime's. It stands on [`trunk`], the wire; [`protocol`], the messages; [`images`], which asks the runtime over
//! [`grpc`] for the digests that NRI does not say; and [`cgroups_path`], the runtimes' notation for cgroups.
//!
//! Nothing here decides anything, and nothing depends on its being there: a container that nobody asks about stays under the
//! base policy.
#![forbid(unsafe_code)]

pub mod cgroups_path;
pub mod grpc;
pub mod images;
pub mod plugin;
pub mod protocol;
pub mod trunk;
