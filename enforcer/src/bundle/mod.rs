//! Policies on their way to the kernel: from bytes to proof.

pub mod compile;
pub mod sources;
pub mod verify;
