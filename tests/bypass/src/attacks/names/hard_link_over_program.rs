//! A hard link lends a program the name of a listed one.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "hard-link-over-program",
    told: "give my program a listed name with a hard link",
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
            .given("exec.allow", "{dir}/app")
            .given("file.read", "{dir}/evil")
            .given("file.write", "{dir}/evil")
            .allowed_by("file.create", "{dir}/app")
            .refused(Hook::PathLink, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/app"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [evil, app] = arguments(words)?;
    std::fs::hard_link(evil, app).at("link")?;
    calls::process::run(app)
}
