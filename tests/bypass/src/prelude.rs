//! What every attack is written with.

pub(crate) use std::path::Path;

pub(crate) use enforcer_common::hook::Hook;
pub(crate) use enforcer_common::verdict::{Family, Reason};
pub(crate) use enforcer_vm_tests::report::{At, Failure, Outcome};
pub(crate) use enforcer_vm_tests::scenario::{Case, Inherited};
pub(crate) use nix::fcntl::OFlag;

pub(crate) use crate::attack::{Attack, Kernels, arguments, failure};
pub(crate) use crate::calls;
