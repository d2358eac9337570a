//! Containers, bound one by one when their runtime asks for it.
//!
//! [`admit`] finds the policy and binds the cgroup, [`control`] is the socket on which it is asked for, and [`strays`] are those for whom nobody asked. Until then a
//! container is under the base policy of its container root, which the kernel's programs see to; so what fails here leaves
//! a container that can do less, never one that can do more.
#![forbid(unsafe_code)]

pub mod admit;
pub mod control;
pub mod strays;
