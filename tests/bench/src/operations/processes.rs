//! New processes and new programs.

use std::ffi::{CStr, CString};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, execve, fork as fork_process};

use super::{Run, files::is_refused};
use crate::fixture;

/// Forks, lets `child` say how it went, and waits for it.
fn in_child(child: impl FnOnce() -> bool) -> Result<()> {
    // SAFETY: this program has one thread; the child makes system calls and ends.
    match unsafe { fork_process() }? {
        ForkResult::Child => {
            let status = i32::from(!child());
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None)?;
            ensure!(matches!(status, WaitStatus::Exited(_, 0)), "the child ended with {status:?}");
            Ok(())
        }
    }
}

pub(super) fn fork(_: u32) -> Result<Run> {
    Ok(Box::new(|| in_child(|| true)))
}

fn start(program: &CStr) -> nix::Result<()> {
    execve(program, &[program], &[] as &[&CStr]).map(|never| match never {})
}

fn exec(program: &str) -> Result<Run> {
    let program = CString::new(program).context("a path has no NUL")?;
    // A program that started ends with 0.
    Ok(Box::new(move || in_child(|| start(&program).is_ok())))
}

pub(super) fn exec_static(_: u32) -> Result<Run> {
    exec(fixture::STATIC_PROGRAM)
}

pub(super) fn exec_dynamic(_: u32) -> Result<Run> {
    exec(fixture::DYNAMIC_PROGRAM)
}

pub(super) fn refused_exec(_: u32) -> Result<Run> {
    let program = CString::new(fixture::REFUSED_PROGRAM).context("a path has no NUL")?;
    // One that started would end with 0 as well, so this happens without a fork.
    Ok(Box::new(move || {
        let result = start(&program);
        ensure!(is_refused(result), "starting {} gave {result:?}", fixture::REFUSED_PROGRAM);
        Ok(())
    }))
}

pub(super) fn new_user_namespace(_: u32) -> Result<Run> {
    Ok(Box::new(|| in_child(|| unshare(CloneFlags::CLONE_NEWUSER).is_ok())))
}

pub(super) fn be_traced(_: u32) -> Result<Run> {
    Ok(Box::new(|| {
        in_child(|| {
            // SAFETY: takes no pointers.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME) == 0 }
        })
    }))
}
