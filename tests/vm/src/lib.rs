//! What the VM suites stand on: workloads, the enforcer under test, its events, and servers that count.
//!
//! Everything here runs as root inside a throw-away VM and changes it at will: it creates cgroups, loads BPF programs
//! and kills processes. The scenarios are in `tests/kernel` and `tests/systemd`; the program they put under a policy
//! is the `actor` binary of this package. Nothing here sleeps to wait for something: [`wait::until`] looks at the
//! condition itself, with a deadline.
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

pub mod actor;
pub mod cgroup;
pub mod enforcer;
pub mod events;
pub mod fuse;
pub mod http;
pub mod other_build;
pub mod performer;
pub mod pins;
pub mod policy;
pub mod random;
pub mod report;
pub mod scenario;
pub mod servers;
pub mod service;
pub mod shared_object;
pub mod siege;
pub mod stub;
pub mod tpm;
pub mod trust;
pub mod units;
pub mod verity;
pub mod wait;
