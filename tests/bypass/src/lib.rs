//! Ways around an allowlist.
//!
//! Each file below [`attacks`] is one attack: what it is called, the rows that [`enforcer_vm_tests::scenario`] tries
//! with and without enforcement, and the code that the `attacker` program runs. `docs/bypasses.md` is made from the
//! same data.
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

pub mod attack;
pub mod attacks;
mod calls;
#[cfg(test)]
mod documentation;
pub mod world;

mod prelude;
