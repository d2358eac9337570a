//! A tracer writes where the program itself cannot: into code that is listed and mapped.

use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU8;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "ptrace-own-child",
    told: "trace my own child, or write to its memory",
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
    vec![
        traced("poke", Hook::PtraceTraceme),
        traced("attach", Hook::PtraceAccessCheck),
        traced("process_vm_writev", Hook::PtraceAccessCheck),
        traced("mem", Hook::PtraceAccessCheck).given("file.write", "/proc/[0-9]*/mem").errno(libc::EACCES),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    match how {
        "attach" => return with_child(|child| ptrace::attach(child).at("attach")),
        "process_vm_writev" => return with_child(write_remotely),
        "mem" => return with_child(write_file),
        _ => {}
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

/// Acts on a child that did not ask for it.
fn with_child(act: fn(Pid) -> Result<(), Failure>) -> Outcome {
    // SAFETY: the attacker is single threaded here, and the child only waits.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            nix::unistd::pause();
            calls::process::exit(0)
        }
        ForkResult::Parent { child } => {
            let acted = act(child);
            nix::sys::signal::kill(child, Signal::SIGKILL).at("kill")?;
            while !matches!(waitpid(child, None).at("waitpid")?, WaitStatus::Signaled(..)) {}
            acted.map(calls::nothing)
        }
    }
}

/// A byte that the child has, too, at the same address.
static BYTE: AtomicU8 = AtomicU8::new(0);

fn write_remotely(child: Pid) -> Result<(), Failure> {
    let remote = [RemoteIoVec { base: BYTE.as_ptr() as usize, len: 1 }];
    process_vm_writev(child, &[IoSlice::new(b"!")], &remote).at("process_vm_writev").map(drop)
}

fn write_file(child: Pid) -> Result<(), Failure> {
    let memory = std::fs::OpenOptions::new().write(true).open(format!("/proc/{child}/mem")).at("open")?;
    memory.write_all_at(b"!", BYTE.as_ptr() as u64).at("write")
}

/// Returns something else once the tracer has been at it.
#[inline(never)]
extern "C" fn target() -> i32 {
    std::hint::black_box(77)
}
