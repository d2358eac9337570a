//! Suite `systemd`: runs as root in the Debian guest, with systemd as PID 1, on every kernel of the matrix.
//!
//! One module per subject below `systemd/`; this file only names them. The enforcer runs as a unit here.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

#[path = "systemd/environment.rs"]
mod environment;
#[path = "systemd/nginx.rs"]
mod nginx;
#[path = "systemd/no_gap.rs"]
mod no_gap;
#[path = "systemd/sealed.rs"]
mod sealed;
#[path = "systemd/shipped_unit.rs"]
mod shipped_unit;
#[path = "systemd/standard_streams.rs"]
mod standard_streams;
#[path = "systemd/webapp.rs"]
mod webapp;
