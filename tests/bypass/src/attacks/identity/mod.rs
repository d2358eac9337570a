//! Identity: shaking the policy off.

use crate::attack::Attack;

mod become_another_process;
mod become_another_program;
mod drop_privileges;
mod enter_namespace;
mod failed_fork;
mod leave_the_cgroup;
mod vfork;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    become_another_process::ATTACK,
    become_another_program::ATTACK,
    drop_privileges::ATTACK,
    enter_namespace::ATTACK,
    failed_fork::ATTACK,
    leave_the_cgroup::ATTACK,
    vfork::ATTACK,
];
