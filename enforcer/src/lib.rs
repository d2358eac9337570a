//! Kernel-level allowlist enforcement.

pub mod kernel;
pub mod policy;
