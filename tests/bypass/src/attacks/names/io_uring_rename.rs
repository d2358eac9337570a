//! `io_uring` renames and links like the system calls do.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "io-uring-rename",
    told: "put my program in place of a listed one through io_uring",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let over = |how: &str, hook: Hook| {
        ATTACK
            .row(&[how, "{dir}/evil", "{dir}/app"])
            .stub("{dir}/evil", 0)
            .given("exec.allow", "{dir}/app")
            .given("file.read", "{dir}/evil")
            .given("file.write", "{dir}/evil")
            .allowed_by("file.create", "{dir}/app")
            .refused(hook, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/app")
    };
    vec![over("rename", Hook::PathRename), over("link", Hook::PathLink)]
}

fn run(words: &[&str]) -> Outcome {
    let [how, evil, app] = arguments(words)?;
    let (from, to) = (calls::c_string(evil).at("path")?, calls::c_string(app).at("path")?);
    let ring = calls::uring::ring("plain")?;
    match how {
        "link" => ring.link(&from, &to).at("linkat by io_uring")?,
        _ => ring.rename(&from, &to).at("renameat by io_uring")?,
    }
    calls::process::run(app)
}
