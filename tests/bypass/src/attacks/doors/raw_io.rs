//! Whoever reaches the ports of the machine reaches its disks and its memory.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "raw-io",
    told: "speak to the hardware",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |how: &str| {
        ATTACK
            .row(&[how])
            .allowed_by("privileges.allow", "raw-io")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("raw-io")
    };
    vec![row("ioperm"), row("iopl")]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    // In a child, which takes what it got with it.
    calls::process::in_child(|| {
        // SAFETY: gaining access to ports touches none.
        let gained = unsafe { if how == "iopl" { libc::iopl(3) } else { libc::ioperm(0x80, 1, 1) } };
        calls::check(gained).at(how).map(calls::nothing)
    })
}
