//! What is typed into a terminal is obeyed by whoever reads from it.

use std::os::fd::AsRawFd;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "type-into-terminal",
    told: "type a command as if the user had",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["TIOCSTI"])
            .given("file.read", "/dev/ptmx")
            .given("file.write", "/dev/ptmx")
            .given("file.read", "/dev/pts/*")
            .given("file.write", "/dev/pts/*")
            .allowed_by("privileges.allow", "terminal-input")
            .refused(Hook::FileIoctl, Family::Privilege, Reason::Privilege)
            .about("terminal-input"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    let user = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).at("open")?;
    grantpt(&user).at("grantpt")?;
    unlockpt(&user).at("unlockpt")?;
    let terminal = calls::files::open(&ptsname_r(&user).at("ptsname")?, OFlag::O_RDWR | OFlag::O_NOCTTY)?;
    let key = b'\n';
    // SAFETY: the command reads one byte.
    calls::check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSTI, &raw const key) })
        .at("TIOCSTI")
        .map(calls::nothing)
}
