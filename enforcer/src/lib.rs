//! Kernel-level allowlist enforcement: everything but the BPF programs.

pub mod bundle;
pub mod cgroups;
pub mod cli;
pub mod daemon;
pub mod events;
pub mod kernel;
pub mod measured;
pub mod policy;
pub mod session;
pub mod status;
pub mod sys;
pub mod tpm;
