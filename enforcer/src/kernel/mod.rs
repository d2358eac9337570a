//! The kernel's side of user space: the only modules that use aya.

pub mod btf;
