//! Suite `systemd_software`: ordinary software from Debian under realistic policies, as units of systemd.
//!
//! Each module is one piece of software under one policy of `policy-examples/`: what it is for works, without a single
//! refusal, and what an attacker would do through it is refused and reported.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

#[path = "systemd_software/node.rs"]
mod node;
#[path = "systemd_software/python.rs"]
mod python;
#[path = "systemd_software/redis.rs"]
mod redis;
