//! The kernel's log tells addresses, and can be cleared.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "kernel-log",
    told: "read and clear the kernel's log",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["size"])
            .allowed_by("privileges.allow", "kernel-log")
            .refused(Hook::Syslog, Family::Privilege, Reason::Privilege)
            .about("kernel-log"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    // SYSLOG_ACTION_READ_ALL of one byte.
    let mut byte = 0_u8;
    // SAFETY: the kernel writes at most one byte.
    calls::check(unsafe { libc::klogctl(3, (&raw mut byte).cast(), 1) }).at("syslog").map(calls::nothing)
}
