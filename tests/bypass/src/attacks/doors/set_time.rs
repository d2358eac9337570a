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
        // Which passes no hook of its own.
        ATTACK
            .row(&["adjust"])
            .allowed_by("privileges.allow", "set-time")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("set-time"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    if how == "adjust" {
        // SAFETY: all-zero is a value of this structure.
        let mut change: libc::timex = unsafe { core::mem::zeroed() };
        // By nothing at all; a jump of any size goes the same way.
        change.modes = libc::ADJ_SETOFFSET;
        // SAFETY: the kernel reads and writes the structure.
        let adjusted = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut change) };
        return calls::check(adjusted).at("clock_adjtime").map(calls::nothing);
    }
    let clock = ClockId::CLOCK_REALTIME;
    let now = nix::time::clock_gettime(clock).at("clock_gettime")?;
    nix::time::clock_settime(clock, now).at("clock_settime").map(calls::nothing)
}
