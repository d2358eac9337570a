//! The memory of another process is its code and its secrets.

use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "process-memory",
    told: "read and write the memory of a process outside",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["write", "{victim}", "{victim-stack}"])
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace"),
        ATTACK
            .row(&["read", "{victim}", "{victim-stack}"])
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace"),
        ATTACK
            .row(&["compare", "{victim}", "{victim-stack}"])
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace")
            .optional(),
        ATTACK
            .row(&["file", "{victim}", "{victim-stack}"])
            .allowed_by("file.read", "/proc/{victim}/mem")
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("/mem"),
        ATTACK
            .row(&["file", "{victim}", "{victim-stack}"])
            .given("file.read", "/proc/{victim}/mem")
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace")
            .errno(libc::EACCES),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, victim, address] = arguments(words)?;
    let base: usize = calls::number(address)?;
    let remote = [RemoteIoVec { base, len: 1 }];
    let pid = Pid::from_raw(calls::number(victim)?);
    let mut byte = [0; 1];
    match how {
        "write" => {
            process_vm_writev(pid, &[IoSlice::new(b"!")], &remote).at("process_vm_writev").map(calls::nothing)
        }
        "read" => process_vm_readv(pid, &mut [IoSliceMut::new(&mut byte)], &remote)
            .at("process_vm_readv")
            .map(calls::nothing),
        // Whether both have the same files open.
        "compare" => {
            const KCMP_FILES: i32 = 2;
            // SAFETY: takes no pointers.
            let compared =
                unsafe { libc::syscall(libc::SYS_kcmp, std::process::id(), pid.as_raw(), KCMP_FILES, 0, 0) };
            calls::check(compared).at("kcmp").map(calls::nothing)
        }
        _ => std::fs::File::open(format!("/proc/{victim}/mem"))
            .at("open")?
            .read_exact_at(&mut byte, base as u64)
            .at("read")
            .map(calls::nothing),
    }
}
