//! Running the actor, and other programs, in a cgroup.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::cgroup::Cgroup;
use crate::report::Report;

/// Longest that a list of operations may take.
const LIMIT: Duration = Duration::from_secs(120);

/// An operation with its arguments.
pub type Op = Vec<String>;

/// Shorthand for an [`Op`].
#[must_use]
pub fn op<S: AsRef<str>>(words: &[S]) -> Op {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}

/// Where a program of this package is installed: the first one on `PATH`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn installed(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is not on PATH"))
}

/// The first program of this name on `PATH`.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// The actor's path, as policies name it.
///
/// Without an installed actor (on the build machine, where only text is tested) this is where it would be.
#[must_use]
pub fn program() -> String {
    find("actor").map_or_else(|| "/usr/local/bin/actor".into(), |path| path.to_string_lossy().into_owned())
}

/// Where a program is started.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In our own cgroup.
    Host,
    /// A child of ours moves itself there before it starts the program: a task from the host that joins.
    Joining(&'a Cgroup),
    /// The `launcher` program does it, as a service manager would.
    Launched(&'a Cgroup),
}

/// A command that starts `program` there.
///
/// # Panics
/// When the cgroup is gone.
#[must_use]
pub fn command(place: Place<'_>, program: impl AsRef<OsStr>) -> Command {
    match place {
        Place::Host => Command::new(program),
        Place::Joining(cgroup) => {
            let procs = cgroup.procs().expect("opening cgroup.procs");
            let mut command = Command::new(program);
            let join = move || (&procs).write_all(b"0");
            // SAFETY: the closure only calls write(2), which is async-signal-safe.
            unsafe { command.pre_exec(join) };
            command
        }
        Place::Launched(cgroup) => {
            let mut command = Command::new(installed("launcher"));
            command.arg(cgroup.directory()).arg("--").arg(program);
            command
        }
    }
}

/// How to start a program that takes operations.
#[derive(Debug)]
pub struct Performer<'a> {
    /// Where.
    pub place: Place<'a>,
    /// Which program: the actor, a copy, or another that understands the same script.
    pub program: &'a str,
    /// As whom, if not as root.
    pub uid: Option<u32>,
    /// Descriptors that it gets, and their numbers.
    pub inherited: Vec<(OwnedFd, RawFd)>,
}

/// A running actor that was given a list of operations.
#[derive(Debug)]
pub struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    reports: Receiver<Report>,
    stderr: std::process::ChildStderr,
    /// The operation that it was asked for last.
    asked: Op,
}

impl Actor {
    /// Starts the actor.
    ///
    /// # Errors
    /// When it could not be started: `EPERM` if the policy refused it.
    pub fn start(place: Place<'_>) -> io::Result<Self> {
        Self::start_as(place, &program())
    }

    /// Starts a copy of the actor that has another path.
    ///
    /// # Errors
    /// As [`Actor::start`].
    pub fn start_as(place: Place<'_>, program: &str) -> io::Result<Self> {
        Self::start_performer(Performer { place, program, uid: None, inherited: Vec::new() })
    }

    /// Starts any program that takes operations.
    ///
    /// # Errors
    /// As [`Actor::start`].
    pub fn start_performer(performer: Performer<'_>) -> io::Result<Self> {
        let mut command = command(performer.place, performer.program);
        if let Some(uid) = performer.uid {
            command.uid(uid).gid(uid);
        }
        let inherited = out_of_the_way(performer.inherited)?;
        let pass_on = move || {
            for (descriptor, number) in &inherited {
                // SAFETY: takes no pointers; the number is not in use, and a duplicate stays open across exec.
                if unsafe { libc::dup2(descriptor.as_raw_fd(), *number) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: the closure only calls dup2(2), which is async-signal-safe.
        unsafe { command.pre_exec(pass_on) };
        let mut child = command
            .arg("script")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the pipes that were asked for are missing"));
        };
        let (sender, reports) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                let Ok(report) = serde_json::from_str(&line) else { break };
                if sender.send(report).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, stdin: Some(stdin), reports, stderr, asked: Vec::new() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives way to others: a loop without end must not starve what it is there to watch.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn be_nice(&self) {
        // SAFETY: takes no pointers.
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, self.pid(), 10) };
        assert_eq!(result, 0, "setpriority");
    }

    /// Hands it one operation, without waiting for the result.
    ///
    /// # Panics
    /// When it is gone.
    pub fn ask(&mut self, op: &[String]) {
        self.tell(op).expect("writing to the actor");
    }

    fn tell(&mut self, op: &[String]) -> io::Result<()> {
        let mut line = serde_json::to_vec(op)?;
        line.push(b'\n');
        op.clone_into(&mut self.asked);
        let stdin = self.stdin.as_mut().expect("the actor still takes orders");
        stdin.write_all(&line).and_then(|()| stdin.flush())
    }

    /// Does one operation, unless it ends before: an actor that is starting while a policy comes may be kept from mapping
    /// its own program, and is killed.
    ///
    /// # Panics
    /// When it neither answers nor ends in time.
    #[must_use]
    pub fn attempt(&mut self, op: &[String]) -> Option<Report> {
        self.tell(op).ok()?;
        self.last_report()
    }

    /// The next report.
    ///
    /// # Panics
    /// When none comes in time, or the actor ended.
    #[must_use]
    pub fn report(&mut self) -> Report {
        self.last_report().unwrap_or_else(|| {
            let obituary = self.obituary();
            panic!("the actor ended over {:?}: {obituary}", self.asked)
        })
    }

    /// The next report, unless the actor ended before.
    fn last_report(&mut self) -> Option<Report> {
        match self.reports.recv_timeout(LIMIT) {
            Ok(report) => Some(report),
            Err(RecvTimeoutError::Timeout) => panic!("the actor did not answer within {LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Does one operation and returns its report.
    #[must_use]
    pub fn perform<S: AsRef<str>>(&mut self, words: &[S]) -> Report {
        self.ask(&op(words));
        self.report()
    }

    /// Reports that have already come.
    pub fn pending(&mut self) -> impl Iterator<Item = Report> + '_ {
        self.reports.try_iter()
    }

    /// Tells it that no more orders follow, and returns what it still has to say.
    ///
    /// # Panics
    /// When it does not end in time or fails.
    #[must_use]
    pub fn finish(mut self) -> Vec<Report> {
        self.stdin = None;
        let deadline = Instant::now() + LIMIT;
        let mut rest = Vec::new();
        loop {
            match self.reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(report) => rest.push(report),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the actor did not end within {LIMIT:?}"),
            }
        }
        let status = self.child.wait().expect("waiting for the actor");
        assert!(status.success(), "the actor ended with {status}: {}", self.obituary());
        rest
    }

    fn obituary(&mut self) -> String {
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let mut text = String::new();
        let _ = self.stderr.read_to_string(&mut text);
        format!("{status} {text}")
    }
}

/// Moves descriptors above all numbers that they shall get: none may be overwritten before it has been handed on.
fn out_of_the_way(inherited: Vec<(OwnedFd, RawFd)>) -> io::Result<Vec<(OwnedFd, RawFd)>> {
    let numbers = || inherited.iter().map(|(_, number)| *number);
    let (Some(lowest), Some(highest)) = (numbers().min(), numbers().max()) else { return Ok(inherited) };
    allow_many_files()?;
    let moved = |(descriptor, number): (OwnedFd, RawFd)| {
        if descriptor.as_raw_fd() < lowest {
            return Ok((descriptor, number));
        }
        let above = fcntl(&descriptor, FcntlArg::F_DUPFD_CLOEXEC(highest + 1))?;
        // SAFETY: the kernel has just made it, for us alone.
        Ok((unsafe { OwnedFd::from_raw_fd(above) }, number))
    };
    inherited.into_iter().map(moved).collect()
}

/// Raises the limit of open files as far as it goes.
///
/// # Errors
/// When the kernel refuses.
pub fn allow_many_files() -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a list of operations in one actor process.
///
/// # Errors
/// When the actor could not be started.
pub fn run(place: Place<'_>, ops: &[Op]) -> io::Result<Vec<Report>> {
    run_as(Performer { place, program: &program(), uid: None, inherited: Vec::new() }, ops)
}

/// Runs a list of operations in one process of any program that takes them.
///
/// # Errors
/// When it could not be started.
pub fn run_as(performer: Performer<'_>, ops: &[Op]) -> io::Result<Vec<Report>> {
    let mut actor = Actor::start_performer(performer)?;
    let reports = ops
        .iter()
        .map(|op| {
            actor.ask(op);
            actor.report()
        })
        .collect();
    let rest = actor.finish();
    assert!(rest.is_empty(), "reports nobody asked for: {rest:?}");
    Ok(reports)
}

/// Runs a program there to its end.
///
/// # Errors
/// When it could not be started.
pub fn status(place: Place<'_>, program: &Path, arguments: &[&str]) -> io::Result<ExitStatus> {
    let mut command = command(place, program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
}
