//! Wrappers: do an operation as somebody else, or from somewhere else.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use enforcer_vm_tests::report::{At, Failure, Outcome, Report};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe2, setsid};

use crate::programs::system_exit;
use crate::{perform as perform_any, system};

pub(crate) fn perform(name: &str, rest: &[String]) -> Option<Outcome> {
    let first = rest.first().map_or("", String::as_str);
    let after_first = rest.get(1..).unwrap_or_default();
    Some(match name {
        "fork" => in_child(rest, |_| Ok(())),
        "double-fork" => in_child(&prefixed("fork", rest), |_| Ok(())),
        "setsid" => in_child(rest, |_| setsid().at("setsid").map(drop)),
        "daemonise" => in_child(&prefixed("orphan", rest), |_| setsid().at("setsid").map(drop)),
        // The second half of daemonising: the parent is gone before the operation starts.
        "orphan" => in_orphan(rest),
        "thread" => in_thread(rest),
        "move-cgroup" => in_child(after_first, |_| join(first)),
        "into-cgroup" => in_cgroup_clone(first, after_first),
        "setns" => in_child(after_first, |_| enter_mount_namespace(first)),
        "sequence" => steps(first),
        "exec-self" => in_new_image(first, after_first),
        _ => return None,
    })
}

fn prefixed(name: &str, rest: &[String]) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(rest.iter().cloned()).collect()
}

/// A pipe that carries one report between relatives.
struct Channel {
    read: std::fs::File,
    write: std::fs::File,
}

impl Channel {
    fn new() -> Result<Self, Failure> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).at("pipe2")?;
        Ok(Self { read: read.into(), write: write.into() })
    }

    /// Tells the outcome and ends this process.
    fn finish(mut self, op: &[String], outcome: Outcome) -> ! {
        let line = serde_json::to_vec(&Report::new(op, outcome)).unwrap_or_default();
        let _ = self.write.write_all(&line);
        system_exit(0)
    }

    /// The outcome that the other side told.
    fn outcome(self) -> Outcome {
        let Self { mut read, write } = self;
        drop(write);
        let mut line = Vec::new();
        read.read_to_end(&mut line).at("read report")?;
        serde_json::from_slice::<Report>(&line)
            .map_err(|_| Failure { step: "relative died".into(), errno: libc::ECHILD })?
            .into_outcome()
    }
}

/// Does `op` in a child, after `prepare`.
fn in_child(op: &[String], prepare: impl FnOnce(Pid) -> Result<(), Failure>) -> Outcome {
    let channel = Channel::new()?;
    let parent = Pid::this();
    // SAFETY: the actor is single threaded here, so the child may go on as usual.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            let outcome = prepare(parent).and_then(|()| perform_any(op));
            channel.finish(op, outcome)
        }
        ForkResult::Parent { child } => {
            let outcome = channel.outcome();
            waitpid(child, None).at("waitpid")?;
            outcome
        }
    }
}

/// Does `op` in a grandchild whose parent has exited.
fn in_orphan(op: &[String]) -> Outcome {
    let channel = Channel::new()?;
    // SAFETY: as in `in_child`.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            let parent = Pid::this();
            // SAFETY: as in `in_child`.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => {
                    // The condition is the kernel's re-parenting, which happens when the parent exits.
                    while nix::unistd::getppid() == parent {
                        std::thread::yield_now();
                    }
                    let outcome = perform_any(op);
                    channel.finish(op, outcome)
                }
                _ => system_exit(0),
            }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).at("waitpid")?;
            channel.outcome()
        }
    }
}

fn in_thread(op: &[String]) -> Outcome {
    let op = op.to_vec();
    std::thread::Builder::new()
        .spawn(move || perform_any(&op))
        .at("thread")?
        .join()
        .unwrap_or_else(|_| Err(Failure { step: "thread panicked".into(), errno: libc::ECHILD }))
}

/// Several operations, as JSON; each must succeed for the next to be tried, and the last one's outcome counts.
fn steps(table: &str) -> Outcome {
    let ops: Vec<Vec<String>> = serde_json::from_str(table)
        .map_err(|error| Failure { step: format!("sequence: {error}"), errno: libc::EINVAL })?;
    ops.iter().try_fold(String::new(), |_, op| perform_any(op))
}

fn enter_mount_namespace(file: &str) -> Result<(), Failure> {
    let namespace = open(file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at("open namespace")?;
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNS).at("setns")
}

/// Moves the caller into the cgroup with this directory.
fn join(directory: &str) -> Result<(), Failure> {
    let mut procs = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("{directory}/cgroup.procs"))
        .at("open cgroup.procs")?;
    procs.write_all(b"0").at("write cgroup.procs")
}

/// Does `op` in a child that is born in another cgroup. The cgroup's directory is opened with `O_PATH`, which no LSM
/// hook sees.
fn in_cgroup_clone(directory: &str, op: &[String]) -> Outcome {
    let directory = open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at("open cgroup")?;
    let channel = Channel::new()?;
    match system::clone_into_cgroup(directory.as_fd()).at("clone3")? {
        None => {
            let outcome = perform_any(op);
            channel.finish(op, outcome)
        }
        Some(child) => {
            let outcome = channel.outcome();
            waitpid(Pid::from_raw(child), None).at("waitpid")?;
            outcome
        }
    }
}

/// Starts `program` (a copy of the actor) and has it do `op`; its exit status tells how that went.
fn in_new_image(program: &str, op: &[String]) -> Outcome {
    let words: Vec<&str> = op.iter().map(String::as_str).collect();
    let mut arguments = vec![program, "quiet"];
    arguments.extend(words);
    match crate::programs::perform("exec", &arguments) {
        Some(Ok(detail)) if detail == "exit 0" => Ok(detail),
        Some(Ok(detail)) => Err(Failure { step: format!("after exec: {detail}"), errno: libc::EPERM }),
        Some(Err(failure)) => Err(failure),
        None => Err(Failure { step: "exec".into(), errno: libc::EINVAL }),
    }
}
