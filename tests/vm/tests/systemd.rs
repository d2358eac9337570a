//! Suite `systemd`: runs as root in the Debian guest, with systemd as PID 1, on every kernel of the matrix.
//!
//! One module per subject below `systemd/`; this file only names them.

#[path = "systemd/environment.rs"]
mod environment;
