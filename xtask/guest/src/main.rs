//! `vm-guest`: `/init` of every test VM, and in systemd guests also the service that runs the command.
//!
//! As PID 1 it mounts, loads modules and either runs the command itself (initramfs tier) or hands over to
//! systemd, whose `vm-agent.service` starts it again as `vm-guest agent`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "standard error is the kernel console here, our only log")]

mod agent;
mod boot;
mod command;
mod mounts;

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("agent") => agent::run_and_power_off(),
        _ if std::process::id() == 1 => boot::run(),
        _ => Err(anyhow::anyhow!("vm-guest runs as PID 1 or as `vm-guest agent` inside a test VM")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vm-guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
