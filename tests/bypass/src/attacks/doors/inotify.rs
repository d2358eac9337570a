//! Watching a file tells when others use it.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "inotify",
    told: "watch a file that I may not read",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/secret"])
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::PathNotify, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [path] = arguments(words)?;
    // SAFETY: takes no pointers.
    let watcher = calls::descriptor(unsafe { libc::inotify_init1(0) }).at("inotify_init1")?;
    let path = calls::c_string(path).at("path")?;
    // SAFETY: the path ends in NUL.
    let watch = unsafe { libc::inotify_add_watch(watcher.as_raw_fd(), path.as_ptr(), libc::IN_ACCESS) };
    calls::check(watch).at("inotify_add_watch").map(calls::nothing)
}
