//! Kernel-level allowlist enforcement.

pub mod bundle;
pub mod cgroups;
pub mod events;
pub mod kernel;
pub mod policy;
pub mod sys;
