//! Starting programs.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, execv, execveat, fork, pipe2};

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("exec", [path, rest @ ..]) => spawn(|| exec(path, rest)),
        ("execveat", [path]) => exec_by_path_descriptor(path),
        _ => return None,
    })
}

fn argv(path: &str, rest: &[&str]) -> Vec<CString> {
    let words = if rest.is_empty() { &["true"][..] } else { rest };
    std::iter::once(&path).chain(words).filter_map(|word| CString::new(*word).ok()).collect()
}

fn exec(path: &str, rest: &[&str]) -> nix::Error {
    let arguments = argv(path, rest);
    match arguments.first() {
        Some(program) => execv(program, &arguments).map_or_else(|error| error, |never| match never {}),
        None => nix::Error::EINVAL,
    }
}

/// Starts a program by a descriptor that was opened for its path alone.
fn exec_by_path_descriptor(path: &str) -> Outcome {
    let fd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at("open")?;
    let environment: [CString; 0] = [];
    spawn(|| {
        execveat(&fd, c"", &argv("fd", &[]), &environment, AtFlags::AT_EMPTY_PATH)
            .map_or_else(|error| error, |never| match never {})
    })
}

/// Runs `replace` in a child; it returns only when the exec failed. Reports the exec's error, or waits for the new
/// program and gives its exit status as detail.
fn spawn(replace: impl FnOnce() -> nix::Error) -> Outcome {
    let (mut read, mut write) =
        pipe2(OFlag::O_CLOEXEC).at("pipe2").map(|(r, w)| (r.into_file(), w.into_file()))?;
    // SAFETY: the actor is single threaded here, and the child only execs, writes and exits.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            let errno = replace() as i32;
            let _ = write.write_all(&errno.to_ne_bytes());
            system_exit(127)
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut errno = [0; 4];
            let failed = read.read_exact(&mut errno).is_ok();
            let status = waitpid(child, None).at("waitpid")?;
            match (failed, status) {
                (true, _) => Err(Failure { step: "exec".into(), errno: i32::from_ne_bytes(errno) }),
                (false, WaitStatus::Exited(_, code)) => Ok(format!("exit {code}")),
                (false, other) => Err(Failure { step: format!("child: {other:?}"), errno: libc::EINTR }),
            }
        }
    }
}

trait IntoFile {
    fn into_file(self) -> std::fs::File;
}

impl IntoFile for OwnedFd {
    fn into_file(self) -> std::fs::File {
        self.into()
    }
}

/// Ends a child without running exit handlers that belong to the parent.
pub(crate) fn system_exit(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}
