//! The clock decides which certificates and passwords are valid.

use nix::time::ClockId;

use crate::prelude::*;

pub(crate) const ATTACK: Attack =
    Attack { name: "set-time", told: "set the clock", kernels: Kernels::All, ordinary: false, rows, run };

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["clock"])
            .allowed_by("privileges.allow", "set-time")
            .refused(Hook::Settime, Family::Privilege, Reason::Privilege)
            .about("set-time"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    let clock = ClockId::CLOCK_REALTIME;
    let now = nix::time::clock_gettime(clock).at("clock_gettime")?;
    nix::time::clock_settime(clock, now).at("clock_settime").map(calls::nothing)
}
