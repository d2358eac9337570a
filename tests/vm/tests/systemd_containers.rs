//! Suite `systemd_containers`: real runtimes from Debian (Podman with crun and conmon, bare runc) with the OCI hook.
//!
//! Images are made of the guest's own files: the static actor under several names. Nothing is pulled from anywhere.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

#[path = "systemd_containers/image.rs"]
mod image;
#[path = "systemd_containers/podman.rs"]
mod podman;
#[path = "systemd_containers/runc.rs"]
mod runc;
