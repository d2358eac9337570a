//! `F_SETOWN` has the kernel send the signal, when a descriptor becomes ready.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "signal-by-descriptor",
    told: "stop a process outside through a pipe or socket of mine",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let signal = |how: &str, hook: Hook| {
        ATTACK
            .row(&[how, "{victim}"])
            .given("file.read", "/proc/{victim}/stat")
            .allowed_by("privileges.allow", "signal")
            .refused(hook, Family::Privilege, Reason::Privilege)
            .about("signal")
    };
    vec![
        signal("process", Hook::FileFcntl),
        signal("structure", Hook::FileFcntl),
        signal("ioctl", Hook::FileIoctl),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, victim] = arguments(words)?;
    let pid: i32 = calls::number(victim)?;
    // A process may signal itself, and nobody says a word.
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    if let Err(refused) = send("process", own, libc::SIGURG) {
        return Err(failure(&format!("to itself: {}", refused.step), libc::EXDEV));
    }
    let stopped = || -> Result<bool, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{victim}/stat")).at("read stat")?;
        Ok(stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't'])))
    };
    send(how, pid, libc::SIGSTOP)?;
    let reached = (0..LOOKS).map(|_| stopped()).find(|stopped| *stopped != Ok(false)).unwrap_or(Ok(false))?;
    send(how, pid, libc::SIGCONT)?;
    if reached { Ok("stopped".into()) } else { Err(failure("nothing happened", libc::EIO)) }
}

/// How often to look whether the signal has arrived. It is delivered before the write returns; the rest is the
/// victim's turn to stop.
const LOOKS: u32 = 2000;
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const F_OWNER_PID: i32 = 1;
const FIOSETOWN: libc::c_ulong = 0x8901;

fn send(how: &str, pid: i32, signal: i32) -> Result<(), Failure> {
    let (read, write): (OwnedFd, OwnedFd) = if how == "ioctl" {
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty()).at("socketpair")?
    } else {
        nix::unistd::pipe().at("pipe")?
    };
    let control = |command: i32, argument: i32| {
        // SAFETY: none of the commands takes a pointer.
        calls::check(unsafe { libc::fcntl(read.as_raw_fd(), command, argument) })
    };
    let owned = match how {
        "structure" => {
            let owner = [F_OWNER_PID, pid];
            // SAFETY: the kernel reads a kind and a number.
            calls::check(unsafe { libc::fcntl(read.as_raw_fd(), F_SETOWN_EX, owner.as_ptr()) })
        }
        // SAFETY: the kernel reads a number.
        "ioctl" => calls::check(unsafe { libc::ioctl(read.as_raw_fd(), FIOSETOWN, &raw const pid) }),
        _ => control(libc::F_SETOWN, pid),
    };
    owned.at("setting the owner")?;
    control(F_SETSIG, signal).at("F_SETSIG")?;
    control(libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK).at("O_ASYNC")?;
    nix::unistd::write(&write, b"!").at("write").map(drop)
}
