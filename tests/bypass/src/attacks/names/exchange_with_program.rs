//! `RENAME_EXCHANGE` swaps a program with a listed one.

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "exchange-with-program",
    told: "swap my program with a listed one",
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
            .about("{dir}/app"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [evil, app] = arguments(words)?;
    renameat2(AT_FDCWD, evil, AT_FDCWD, app, RenameFlags::RENAME_EXCHANGE).at("renameat2")?;
    calls::process::run(app)
}
