//! The mode is part of a file.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "chmod",
    told: "make a file executable that I may only read",
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
            .refused(Hook::PathChmod, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    std::fs::set_permissions(victim, Permissions::from_mode(0o755)).at("chmod").map(calls::nothing)
}
