//! Deleting a directory is changing it.

use crate::prelude::*;

pub(crate) const ATTACK: Attack =
    Attack { name: "rmdir", told: "remove a directory", kernels: Kernels::All, ordinary: true, rows, run };

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim"])
            .directory("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::PathRmdir, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    std::fs::remove_dir(victim).at("rmdir").map(calls::nothing)
}
