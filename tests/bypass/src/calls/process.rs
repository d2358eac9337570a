//! Children, threads and programs.

use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use enforcer_vm_tests::report::{At, Failure, Outcome, Report};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execv, execveat, fork, getppid, pipe2};

/// A real interpreter, which is a shell under the name `sh`.
pub(crate) const BUSYBOX: &str = "/usr/bin/busybox";
/// The same, for system calls.
pub(crate) const BUSYBOX_C: &CStr = c"/usr/bin/busybox";

/// Ends a child without running exit handlers that belong to the parent.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

/// A pipe that carries one outcome between relatives.
pub(crate) struct Channel {
    read: std::fs::File,
    write: std::fs::File,
}

impl Channel {
    pub(crate) fn new() -> Result<Self, Failure> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).at("pipe2")?;
        Ok(Self { read: read.into(), write: write.into() })
    }

    /// Tells the outcome and ends this process.
    pub(crate) fn finish(mut self, outcome: Outcome) -> ! {
        let line = serde_json::to_vec(&Report::new(&[], outcome)).unwrap_or_default();
        let _ = self.write.write_all(&line);
        exit(0)
    }

    /// The outcome that the other side told; none if it ended without a word.
    pub(crate) fn outcome(self) -> Result<Option<Outcome>, Failure> {
        let Self { mut read, write } = self;
        drop(write);
        let mut line = Vec::new();
        read.read_to_end(&mut line).at("read report")?;
        Ok(serde_json::from_slice::<Report>(&line).ok().map(Report::into_outcome))
    }
}

/// Acts in a child. A child that a signal kills was refused in effect: `EPERM`.
pub(crate) fn in_child(act: impl FnOnce() -> Outcome) -> Outcome {
    let channel = Channel::new()?;
    // SAFETY: the attacker is single threaded here, so the child may go on as usual.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            let outcome = act();
            channel.finish(outcome)
        }
        ForkResult::Parent { child } => finished(channel, child),
    }
}

/// Waits for a child that tells its outcome over the channel.
pub(crate) fn finished(channel: Channel, child: Pid) -> Outcome {
    let outcome = channel.outcome()?;
    let status = waitpid(child, None).at("waitpid")?;
    outcome.unwrap_or_else(|| Err(ended(status)))
}

fn ended(status: WaitStatus) -> Failure {
    match status {
        WaitStatus::Signaled(_, signal, _) => {
            Failure { step: format!("killed by {signal}"), errno: libc::EPERM }
        }
        other => Failure { step: format!("child: {other:?}"), errno: libc::ECHILD },
    }
}

/// Acts in a grandchild whose parent has exited.
pub(crate) fn in_orphan(act: impl FnOnce() -> Outcome) -> Outcome {
    let channel = Channel::new()?;
    // SAFETY: as in `in_child`.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            let parent = Pid::this();
            // SAFETY: as in `in_child`.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => {
                    // The condition is the kernel's re-parenting, which happens when the parent exits.
                    while getppid() == parent {
                        std::thread::yield_now();
                    }
                    let outcome = act();
                    channel.finish(outcome)
                }
                _ => exit(0),
            }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).at("waitpid")?;
            channel.outcome()?.unwrap_or_else(|| {
                Err(Failure { step: "the orphan ended silently".into(), errno: libc::ECHILD })
            })
        }
    }
}

/// Acts in a thread.
pub(crate) fn in_thread(act: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    std::thread::Builder::new()
        .spawn(act)
        .at("thread")?
        .join()
        .unwrap_or_else(|_| Err(Failure { step: "thread panicked".into(), errno: libc::ECHILD }))
}

/// Runs `replace` in a child; it returns only when the exec failed. Success is a program that ends with status 0.
pub(crate) fn spawn(replace: impl FnOnce() -> nix::Error) -> Outcome {
    match status(replace)? {
        0 => Ok("the program ran".into()),
        other => Err(Failure { step: format!("the program ended with {other}"), errno: libc::EREMOTEIO }),
    }
}

/// As [`spawn`], for the program's status.
pub(crate) fn status(replace: impl FnOnce() -> nix::Error) -> Result<i32, Failure> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).at("pipe2")?;
    let (mut read, mut write) = (std::fs::File::from(read), std::fs::File::from(write));
    // SAFETY: the attacker is single threaded here, and the child only execs, writes and exits.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            let errno = replace() as i32;
            let _ = write.write_all(&errno.to_ne_bytes());
            exit(127)
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut errno = [0; 4];
            let failed = read.read_exact(&mut errno).is_ok();
            let status = waitpid(child, None).at("waitpid")?;
            match (failed, status) {
                (true, _) => Err(Failure { step: "exec".into(), errno: i32::from_ne_bytes(errno) }),
                (false, WaitStatus::Exited(_, code)) => Ok(code),
                (false, other) => Err(ended(other)),
            }
        }
    }
}

/// Becomes the program at `path`, with these arguments.
pub(crate) fn exec(path: &str, rest: &[&str]) -> nix::Error {
    let arguments: Vec<CString> =
        std::iter::once(&path).chain(rest).filter_map(|word| CString::new(*word).ok()).collect();
    match arguments.first() {
        Some(program) => execv(program, &arguments).map_or_else(|error| error, |never| match never {}),
        None => nix::Error::EINVAL,
    }
}

/// Becomes the program that the descriptor stands for.
pub(crate) fn exec_descriptor(fd: &OwnedFd) -> nix::Error {
    let environment: [CString; 0] = [];
    execveat(fd, c"", &[c"fd"], &environment, AtFlags::AT_EMPTY_PATH)
        .map_or_else(|error| error, |never| match never {})
}

/// Starts the program at `path`; success if it ends well.
pub(crate) fn run(path: &str) -> Outcome {
    spawn(|| exec(path, &[]))
}

/// The constant of the same name in `libc` has overflowed.
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `clone3(2)` without shared memory, which makes it a fork. `None` in the child.
pub(crate) fn clone3(flags: u64, exit_signal: i32, cgroup: u64) -> std::io::Result<Option<Pid>> {
    let mut arguments = libc::clone_args {
        flags,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(exit_signal.unsigned_abs()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    // SAFETY: none of the callers passes CLONE_VM, so this is a fork; the attacker is single threaded when it does it.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    let pid = super::check(result)?;
    Ok((pid != 0).then(|| Pid::from_raw(i32::try_from(pid).unwrap_or_default())))
}

/// A descriptor for a process.
pub(crate) fn pidfd(pid: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    super::descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}
