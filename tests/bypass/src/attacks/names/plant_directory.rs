//! A directory where none was.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "plant-directory",
    told: "make a directory",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/new"])
            .allowed_by("file.create", "{dir}/new")
            .refused(Hook::PathMkdir, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/new"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [path] = arguments(words)?;
    std::fs::create_dir(path).at("mkdir").map(calls::nothing)
}
