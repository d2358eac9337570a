//! `F_SETOWN` has the kernel send the signal, when a descriptor becomes ready.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "signal-by-descriptor",
    told: "stop a process outside through a pipe of mine",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{victim}"])
            .given("file.read", "/proc/{victim}/stat")
            .allowed_by("privileges.allow", "signal")
            .refused_at("file_send_sigiotask", Family::Privilege, Reason::Privilege)
            .about("signal"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let pid: i32 = calls::number(victim)?;
    let stopped = || -> Result<bool, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{victim}/stat")).at("read stat")?;
        Ok(stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't'])))
    };
    send(pid, libc::SIGSTOP)?;
    let reached = (0..LOOKS).map(|_| stopped()).find(|stopped| *stopped != Ok(false)).unwrap_or(Ok(false))?;
    send(pid, libc::SIGCONT)?;
    if reached { Ok("stopped".into()) } else { Err(failure("nothing happened", libc::EPERM)) }
}

/// How often to look whether the signal has arrived. It is delivered before the write returns; the rest is the
/// victim's turn to stop.
const LOOKS: u32 = 2000;

fn send(pid: i32, signal: i32) -> Result<(), Failure> {
    let (read, write) = nix::unistd::pipe().at("pipe")?;
    let control = |command: i32, argument: i32| {
        // SAFETY: none of the commands takes a pointer.
        calls::check(unsafe { libc::fcntl(read.as_raw_fd(), command, argument) })
    };
    const F_SETSIG: i32 = 10;
    control(libc::F_SETOWN, pid).at("F_SETOWN")?;
    control(F_SETSIG, signal).at("F_SETSIG")?;
    control(libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK).at("O_ASYNC")?;
    nix::unistd::write(&write, b"!").at("write").map(drop)
}
