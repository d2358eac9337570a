//! Suite `kernel`: runs as root in the initramfs guest of every kernel of the matrix.
//!
//! One module per subject below `kernel/`; this file only names them.

#[path = "kernel/environment.rs"]
mod environment;
