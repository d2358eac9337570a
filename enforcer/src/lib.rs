//! Kernel-level allowlist enforcement.

pub mod cli;
pub mod policy;
