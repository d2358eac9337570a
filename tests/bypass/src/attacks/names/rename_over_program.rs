//! A rename puts a program in the place of a listed one.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "rename-over-program",
    told: "move my program over a listed one",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/evil", "{dir}/app"])
            .stub("{dir}/evil", 0)
            .stub("{dir}/app", 1)
            .given("exec.allow", "{dir}/app")
            .given("file.read", "{dir}/evil")
            .given("file.create", "{dir}/evil")
            .allowed_by("file.create", "{dir}/app")
            .refused(Hook::PathRename, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/app"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [evil, app] = arguments(words)?;
    std::fs::rename(evil, app).at("rename")?;
    calls::process::run(app)
}
