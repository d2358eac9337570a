//! Wrappers: do an operation as somebody else.

use std::io::{Read, Write};

use enforcer_vm_tests::report::{At, Failure, Outcome, Report};
use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe2};

use crate::perform as perform_any;
use crate::programs::system_exit;

pub(crate) fn perform(name: &str, rest: &[String]) -> Option<Outcome> {
    match name {
        "fork" => Some(in_child(rest)),
        _ => None,
    }
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

/// Does `op` in a child.
fn in_child(op: &[String]) -> Outcome {
    let channel = Channel::new()?;
    // SAFETY: the actor is single threaded here, so the child may go on as usual.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            let outcome = perform_any(op);
            channel.finish(op, outcome)
        }
        ForkResult::Parent { child } => {
            let outcome = channel.outcome();
            waitpid(child, None).at("waitpid")?;
            outcome
        }
    }
}
