//! `pidfd_getfd` copies a descriptor out of another process.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "steal-descriptor",
    told: "take an open descriptor from a process outside",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["pidfd_getfd", "{victim}"])
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace"),
        ATTACK
            .row(&["proc", "{victim}"])
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace")
            .errno(libc::EACCES),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, victim] = arguments(words)?;
    if how == "proc" {
        // Its standard input, a pipe.
        return calls::files::touch(&format!("/proc/{victim}/fd/0"), OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    }
    let target = calls::process::pidfd(calls::number(victim)?).at("pidfd_open")?;
    // SAFETY: takes no pointers.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, target.as_raw_fd(), 0, 0) };
    calls::descriptor(taken).at("pidfd_getfd").map(calls::nothing)
}
