//! A rename takes a file away from those who need it.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "rename-away",
    told: "move away a file that I may only read",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim", "{dir}/mine"])
            .file("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .given("file.create", "{dir}/mine")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::PathRename, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim, mine] = arguments(words)?;
    std::fs::rename(victim, mine).at("rename").map(calls::nothing)
}
