//! `FS_IOC_SETFLAGS` makes a file immutable, through a descriptor for reading.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "set-flags",
    told: "make a file immutable that I may only read",
    kernels: Kernels::Only(&["6.12", "6.18", "7"]),
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim"])
            .file("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::FileIoctl, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let file = calls::files::open(victim, OFlag::O_RDONLY)?;
    // FS_NODUMP_FL: harmless, and set by the same call as the harmful ones.
    let flags: libc::c_long = 0x40;
    // SAFETY: the request reads one long (the kernel takes an int of it).
    let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) };
    calls::check(set).at("FS_IOC_SETFLAGS").map(calls::nothing)
}
