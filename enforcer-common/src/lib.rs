//! Every byte that crosses the line between kernel and user space, and the one decision function.
//!
//! This crate owns the map keys and values ([`abi`]), the event record ([`event`]), the table of LSM hooks ([`hook`])
//! and of kernel struct fields ([`field`]), and [`decide`](decide::decide), which the BPF programs, `enforcer
//! explain`, tests and fuzzers all run. It does no I/O, calls no BPF helper, allocates nothing and has no `unsafe`.
//! Its neighbours are `enforcer-ebpf`, which implements [`decide::Tables`] over BPF maps, and `enforcer`, which
//! implements it over a compiled image.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
mod codes;
pub mod content;
pub mod decide;
pub mod environment;
pub mod event;
pub mod field;
pub mod hash;
pub mod hook;
pub mod ioctl;
pub mod kfunc;
pub mod maps;
pub mod net;
pub mod rights;
pub mod verdict;
