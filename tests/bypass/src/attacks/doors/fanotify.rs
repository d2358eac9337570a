//! A permission group decides about other processes' opens, and holds them up.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "fanotify",
    told: "watch and hold up everybody's opens",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["permission", "{dir}"])
            .allowed_by("privileges.allow", "fanotify")
            .refused(Hook::PathNotify, Family::Privilege, Reason::Privilege)
            .about("fanotify"),
        ATTACK
            .row(&["mount", "{dir}"])
            .allowed_by("privileges.allow", "fanotify")
            .refused(Hook::PathNotify, Family::Privilege, Reason::Privilege)
            .about("fanotify"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, path] = arguments(words)?;
    const FAN_CLASS_CONTENT: u32 = 4;
    const FAN_MARK_ADD: u32 = 1;
    const FAN_MARK_MOUNT: u32 = 16;
    const FAN_OPEN: u64 = 0x20;
    const FAN_OPEN_PERM: u64 = 0x1_0000;
    // SAFETY: takes no pointers.
    let group = unsafe { libc::syscall(libc::SYS_fanotify_init, FAN_CLASS_CONTENT, libc::O_RDONLY) };
    let group = calls::descriptor(group).at("fanotify_init")?;
    let path = calls::c_string(path).at("path")?;
    let (flags, mask) = if how == "mount" {
        (FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN)
    } else {
        (FAN_MARK_ADD, FAN_OPEN_PERM)
    };
    // SAFETY: the path ends in NUL.
    let marked = unsafe {
        libc::syscall(libc::SYS_fanotify_mark, group.as_raw_fd(), flags, mask, libc::AT_FDCWD, path.as_ptr())
    };
    calls::check(marked).at("fanotify_mark").map(calls::nothing)
}
