//! A symbolic link can divert those who follow it.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "plant-symlink",
    told: "plant a symbolic link",
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
            .refused(Hook::PathSymlink, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/new"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [path] = arguments(words)?;
    std::os::unix::fs::symlink("/etc/shadow", path).at("symlink").map(calls::nothing)
}
