//! Suite `systemd_heavy`: what suite `systemd_software` does, for software that takes an emulated processor minutes.
//! Runs on some kernels only, as `docs/testing.md` tells.
//!
//! Each module is one piece of software under one policy of `policy-examples/`: what it is for works, without a single
//! refusal, and what an attacker would do through it is refused and reported.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

#[path = "systemd_heavy/apt_get.rs"]
mod apt_get;
#[path = "systemd_heavy/jvm.rs"]
mod jvm;
#[path = "systemd_heavy/postgresql.rs"]
mod postgresql;
