//! Who ends the machine ends whoever watches it.

use crate::prelude::*;

pub(crate) const ATTACK: Attack =
    Attack { name: "reboot", told: "reboot the machine", kernels: Kernels::All, ordinary: false, rows, run };

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["control-alt-delete"])
            .allowed_by("privileges.allow", "reboot")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("reboot"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    // Whether the keys reboot at once: the same call, and the machine goes on.
    nix::sys::reboot::set_cad_enabled(false).at(how).map(calls::nothing)
}
