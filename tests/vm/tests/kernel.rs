//! Suite `kernel`: runs as root in the initramfs guest of every kernel of the matrix.
//!
//! One module per subject below `kernel/`; this file only names them. Attacks have a suite of their own, `tests/bypass`.
//! With `ENFORCER_VM_BASELINE=1` only the halves without enforcement run.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

#[path = "kernel/agreement.rs"]
mod agreement;
#[path = "kernel/batches.rs"]
mod batches;
#[path = "kernel/binding.rs"]
mod binding;
#[path = "kernel/capacity.rs"]
mod capacity;
#[path = "kernel/churn.rs"]
mod churn;
#[path = "kernel/commands.rs"]
mod commands;
#[path = "kernel/containers.rs"]
mod containers;
#[path = "kernel/contents.rs"]
mod contents;
#[path = "kernel/descriptors.rs"]
mod descriptors;
#[path = "kernel/environment.rs"]
mod environment;
#[path = "kernel/events.rs"]
mod events;
#[path = "kernel/files.rs"]
mod files;
#[path = "kernel/interpreters.rs"]
mod interpreters;
#[path = "kernel/launchers.rs"]
mod launchers;
#[path = "kernel/paths.rs"]
mod paths;
#[path = "kernel/probes.rs"]
mod probes;
#[path = "kernel/protected.rs"]
mod protected;
#[path = "kernel/refused_inputs.rs"]
mod refused_inputs;
#[path = "kernel/remembered.rs"]
mod remembered;
#[path = "kernel/remembered_addresses.rs"]
mod remembered_addresses;
#[path = "kernel/remembered_programs.rs"]
mod remembered_programs;
#[path = "kernel/seal_root.rs"]
mod seal_root;
#[path = "kernel/sealed.rs"]
mod sealed;
#[path = "kernel/swaps.rs"]
mod swaps;
#[path = "kernel/takeover.rs"]
mod takeover;
