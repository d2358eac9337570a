//! What those who start containers and the daemon say to each other.
//!
//! [`container`] says what is known about a container, [`cgroup`] where its cgroup is, [`wire`] how the daemon is asked to bind it, [`oci`] how an OCI
//! runtime's hook finds both out. The program of this package is that hook. Nothing here decides anything: whether a
//! container is admitted is the daemon's business, and no answer is a refusal.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod container;
pub mod oci;
pub mod wire;
