//! A tracer writes where the program itself cannot: into code that is listed and mapped.

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "ptrace-own-child",
    told: "trace my own child and write over its code",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let traced = |how: &str, hook: Hook| {
        ATTACK
            .row(&[how])
            .allowed_by("privileges.allow", "ptrace")
            .refused(hook, Family::Privilege, Reason::Privilege)
            .about("ptrace")
    };
    vec![traced("poke", Hook::PtraceTraceme), traced("attach", Hook::PtraceAccessCheck)]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    if how == "attach" {
        return attach();
    }
    let code = target as *mut core::ffi::c_void;
    // SAFETY: the attacker is single threaded here, and the child only stops, calls a function and exits.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            if let Err(error) = ptrace::traceme() {
                calls::process::exit(error as i32);
            }
            if nix::sys::signal::raise(Signal::SIGSTOP).is_err() {
                calls::process::exit(libc::EIO);
            }
            calls::process::exit(target())
        }
        ForkResult::Parent { child } => {
            if let WaitStatus::Exited(_, errno) = waitpid(child, None).at("waitpid")? {
                return Err(failure("traceme", errno));
            }
            // mov eax, 0; ret; nop; nop
            let poked = ptrace::write(child, code, 0x9090_c300_0000_00b8_u64.cast_signed());
            ptrace::cont(child, None).at("cont")?;
            let status = waitpid(child, None).at("waitpid")?;
            poked.at("poke")?;
            match status {
                WaitStatus::Exited(_, 0) => Ok("ran what the tracer wrote".into()),
                other => Err(Failure { step: format!("{other:?}"), errno: libc::EIO }),
            }
        }
    }
}

/// Attaches to a child that did not ask for it.
fn attach() -> Outcome {
    // SAFETY: the attacker is single threaded here, and the child only waits.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            nix::unistd::pause();
            calls::process::exit(0)
        }
        ForkResult::Parent { child } => {
            let attached = ptrace::attach(child);
            nix::sys::signal::kill(child, Signal::SIGKILL).at("kill")?;
            while !matches!(waitpid(child, None).at("waitpid")?, WaitStatus::Signaled(..)) {}
            attached.at("attach").map(calls::nothing)
        }
    }
}

/// Returns something else once the tracer has been at it.
#[inline(never)]
extern "C" fn target() -> i32 {
    std::hint::black_box(77)
}
