//! The command itself: start it, forward what it writes as it writes it, notice its end.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use vm_guest::Job;
use vm_guest::frame::Frame;

use crate::agent::PATH;

/// Exit status of a command that ran out of time, as `timeout(1)` has it.
const TIMED_OUT: i32 = 124;

/// How often to look for ended processes while the command is silent.
const TICK_MS: u16 = 50;

/// Runs the command and returns its exit status (128 + signal when it was killed).
pub(crate) fn run(job: &Job, port: &mut File) -> Result<i32> {
    let (program, arguments) = job.argv.split_first().context("the job has no command")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/root").env_clear().envs(&job.env);
    command.env("PATH", PATH).env("HOME", "/root").env("USER", "root").stdin(Stdio::null());
    if job.interactive {
        return run_on_console(command);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // `Command` also looks programs up in its own PATH setting, so no shell is needed in between.
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            Frame::Stderr(format!("{program}: {error}\n").into_bytes()).write_to(port)?;
            return Ok(if error.kind() == ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).context("process id")?);
    let stdout = child.stdout.take().context("standard output is piped")?;
    let stderr = child.stderr.take().context("standard error is piped")?;
    let mut output = Output::new(Stream::new(stdout, Frame::Stdout)?, Stream::new(stderr, Frame::Stderr)?);
    let deadline = Instant::now() + Duration::from_secs(job.timeout_s);
    loop {
        output.forward(port, TICK_MS)?;
        if let Some(status) = reap(pid) {
            // Daemons may keep the pipes open for ever: what is in them now is what the command wrote.
            output.drain(port)?;
            return Ok(status);
        }
        if Instant::now() > deadline {
            Frame::Note(format!("time limit of {} s reached, command killed", job.timeout_s))
                .write_to(port)?;
            let _ = kill(pid, Signal::SIGKILL);
            output.drain(port)?;
            return Ok(TIMED_OUT);
        }
    }
}

/// Gives the command the serial console as its terminal; QEMU connects that to the user's.
fn run_on_console(mut command: Command) -> Result<i32> {
    let console =
        OpenOptions::new().read(true).write(true).open("/dev/ttyS0").context("opening the console")?;
    command.stdin(console.try_clone()?).stdout(console.try_clone()?).stderr(console);
    let child = command.spawn().context("starting the command")?;
    let pid = Pid::from_raw(i32::try_from(child.id()).context("process id")?);
    loop {
        if let Some(status) = reap(pid) {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(TICK_MS.into()));
    }
}

/// Collects ended processes, orphans included because PID 1 inherits them; the command's status if it ended.
fn reap(command: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == command => return Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => return Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Both output pipes of the command.
struct Output {
    streams: [Stream; 2],
}

impl Output {
    fn new(stdout: Stream, stderr: Stream) -> Self {
        Self { streams: [stdout, stderr] }
    }

    /// Waits up to `timeout_ms` for output and forwards it.
    fn forward(&mut self, port: &mut File, timeout_ms: u16) -> Result<()> {
        let open: Vec<&Stream> = self.streams.iter().filter(|stream| stream.open).collect();
        let mut fds: Vec<_> = open.iter().map(|s| PollFd::new(s.file.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::from(timeout_ms)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("waiting for output"),
        }
        self.drain(port)
    }

    /// Forwards what is in the pipes now, without waiting.
    fn drain(&mut self, port: &mut File) -> Result<()> {
        self.streams.iter_mut().try_for_each(|stream| stream.drain(port))
    }
}

struct Stream {
    file: File,
    frame: fn(Vec<u8>) -> Frame,
    open: bool,
}

impl Stream {
    fn new(pipe: impl Into<std::os::fd::OwnedFd>, frame: fn(Vec<u8>) -> Frame) -> Result<Self> {
        let file = File::from(pipe.into());
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("making a pipe non-blocking")?;
        Ok(Self { file, frame, open: true })
    }

    fn drain(&mut self, port: &mut File) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        // A pipe holds 64 KiB: a few reads empty it, and a command that never stops writing cannot keep us here.
        for _ in 0..4 {
            if !self.open {
                break;
            }
            match self.file.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(length) => (self.frame)(buffer[..length].to_vec()).write_to(port)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading the command's output"),
            }
        }
        Ok(())
    }
}
