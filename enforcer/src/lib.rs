//! Kernel-level allowlist enforcement.

pub mod policy;
