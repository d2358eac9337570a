//! A ring hands commands to drivers, past `ioctl`.

use std::fs::File;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "io-uring-command",
    told: "have io_uring hand a command of mine to a driver",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |how: &str| {
        ATTACK
            .row(&[how])
            .given("file.read", "/dev/null")
            .allowed_by("privileges.allow", "uring-command")
            .refused(Hook::UringCmd, Family::Privilege, Reason::Privilege)
            .about("uring-command")
    };
    vec![row("plain"), row("async")]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    // Takes every command, and does nothing (since 6.0).
    let device = File::open("/dev/null").at("open")?;
    calls::uring::ring(how)?.command(&device.into(), 0).at("io_uring command").map(calls::nothing)
}
