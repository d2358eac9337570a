//! A pipe whose owner somebody outside has set (`F_SETOWN`, `F_SETSIG`, `O_ASYNC`) signals that process when it is written
//! to, whoever writes.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use enforcer_vm_tests::{actor::installed, scenario::stopping_pipe, servers};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "handed-signal",
    told: "stop a process outside by a pipe that I was given",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let handed = |words: &[&str], hook: Hook| {
        ATTACK
            .row(words)
            .given("file.read", "/proc/*/status")
            .allowed_by("privileges.allow", "signal")
            .refused(hook, Family::Privilege, Reason::Privilege)
            .about("signal")
    };
    vec![
        handed(&["received", "@bypass-alarm"], Hook::FileReceive)
            .prepared(serve)
            .given("network.connect", "unix @bypass-alarm")
            .given("file.read", BYSTANDER),
        handed(&["inherited", "{victim}", "{fd}"], Hook::BprmCredsFromFile)
            .inherits(Inherited::Stopping("{victim}".into()))
            .at_entry(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    match words {
        ["received", socket] => {
            let pipe = sockets::receive_descriptor(socket)?;
            let bystander = std::fs::read_to_string(BYSTANDER).at("read the bystander's number")?;
            alarm(&pipe, calls::number(&bystander)?)
        }
        _ => {
            let [_, victim, number] = arguments(words)?;
            alarm(&calls::borrowed(calls::number(number)?), calls::number(victim)?)
        }
    }
}

/// How often to look whether the signal has arrived. It is delivered before the write returns; the rest is the
/// victim's turn to stop.
const LOOKS: u32 = 2000;

fn alarm(pipe: &impl std::os::fd::AsFd, victim: i32) -> Outcome {
    let stopped = || -> Result<bool, Failure> {
        // Unlike `stat` this asks for no privilege.
        let status = std::fs::read_to_string(format!("/proc/{victim}/status")).at("read status")?;
        Ok(status.lines().any(|line| line.starts_with("State:\tT")))
    };
    nix::unistd::write(pipe, b"!").at("write")?;
    let reached = (0..LOOKS).map(|_| stopped()).find(|stopped| *stopped != Ok(false)).unwrap_or(Ok(false))?;
    // Who may do the one may do the other.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim), nix::sys::signal::SIGCONT).at("kill")?;
    if reached { Ok("stopped".into()) } else { Err(failure("nothing happened", libc::EIO)) }
}

/// Holds the number of the process that the server's pipe stops.
const BYSTANDER: &str = "/tmp/bypass-bystander";

static SERVER: OnceLock<Child> = OnceLock::new();

fn serve(_: &Path) {
    SERVER.get_or_init(|| {
        // Ends with this process, whose end of the pipe it waits on.
        let mut command = Command::new(installed("attacker"));
        let bystander = command.arg("script").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let bystander = bystander.expect("starting a bystander");
        let process = i32::try_from(bystander.id()).expect("processes have small numbers");
        std::fs::write(BYSTANDER, process.to_string()).expect("writing the bystander's number");
        servers::descriptor_giver("@bypass-alarm", move || stopping_pipe(process).ok());
        bystander
    });
}
