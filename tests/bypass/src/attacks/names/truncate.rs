//! `truncate(2)` needs no descriptor.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "truncate",
    told: "empty a file that I may only read",
    kernels: Kernels::All,
    ordinary: true,
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
            .refused(Hook::PathTruncate, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    nix::unistd::truncate(victim, 0).at("truncate").map(calls::nothing)
}
