//! Kernel-level allowlist enforcement: everything but the BPF programs.

pub mod admission;
pub mod bundle;
pub mod cgroups;
pub mod cli;
pub mod containers;
pub mod custody;
pub mod daemon;
pub mod events;
pub mod evidence;
pub mod file;
pub mod heartbeat;
pub mod intake;
pub mod kernel;
pub mod measured;
pub mod policy;
pub mod projected;
pub mod session;
pub mod status;
pub mod succession;
pub mod sys;
pub mod tpm;
