//! So is the owner.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "chown",
    told: "give a file away that I may only read",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim"])
            .file("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::PathChown, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    std::os::unix::fs::chown(victim, Some(1), Some(1)).at("chown").map(calls::nothing)
}
