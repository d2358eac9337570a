//! What `cargo xtask bench` measures inside its VMs.
//!
//! Two programs share this library. `bench-ops` carries out the [`operations`] and counts the instructions that each
//! takes ([`meter`]); it is what is put under a policy. `bench-driver` lays out the [`fixture`], puts one protection after
//! the other up, starts `bench-ops` under it, and prints what came out.
//!
//! An operation counts only if it did what it was to do: an allowed one succeeds, a refused one is refused, each time.

pub mod fixture;
pub mod large;
pub mod meter;
pub mod operations;
// Shared with the programs that are asked.
#[path = "../../../enforcer-ebpf/src/bin/decisions/question.rs"]
pub mod question;
