//! A signal can end whoever enforces the rules.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "signal",
    told: "send a process outside a signal",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let signal = |how: &str| {
        ATTACK
            .row(&[how, "{victim}"])
            .allowed_by("privileges.allow", "signal")
            .refused(Hook::TaskKill, Family::Privilege, Reason::Privilege)
            .about("signal")
    };
    vec![
        signal("kill"),
        signal("tgkill"),
        signal("queue"),
        // Since 6.9 a descriptor for a process is an open file without a name; opening it is nothing.
        signal("pidfd"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, victim] = arguments(words)?;
    let victim: i32 = calls::number(victim)?;
    // Ignored by whoever does not wait for it.
    let signal = libc::SIGURG;
    let none = core::ptr::null::<libc::siginfo_t>();
    let sent = match how {
        // SAFETY: takes no pointers.
        "tgkill" => unsafe { libc::syscall(libc::SYS_tgkill, victim, victim, signal) },
        "pidfd" => {
            let target = calls::process::pidfd(victim).at("pidfd_open")?;
            // SAFETY: no signal information is passed.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, target.as_raw_fd(), signal, none, 0) }
        }
        "queue" => {
            // SAFETY: all-zero is a value of this structure.
            let mut information: libc::siginfo_t = unsafe { core::mem::zeroed() };
            information.si_signo = signal;
            information.si_code = -1;
            // SAFETY: the kernel reads the structure.
            unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, victim, signal, &raw const information) }
        }
        // SAFETY: takes no pointers.
        _ => unsafe { libc::syscall(libc::SYS_kill, victim, signal) },
    };
    calls::check(sent).at(how).map(calls::nothing)
}
