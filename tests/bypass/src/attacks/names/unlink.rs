//! Deleting is changing.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "unlink",
    told: "delete a file that I may only read",
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
            .refused(Hook::PathUnlink, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    std::fs::remove_file(victim).at("unlink").map(calls::nothing)
}
