//! A listed program that can be written to is any program.

use std::io::Write;

use enforcer_vm_tests::stub;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "overwrite-program",
    told: "overwrite a listed program in place",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/app"])
            .stub("{dir}/app", 1)
            .given("exec.allow", "{dir}/app")
            .allowed_by("file.write", "{dir}/app")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/app"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [app] = arguments(words)?;
    let mut file = std::fs::File::from(calls::files::open(app, OFlag::O_WRONLY)?);
    file.write_all(&stub::exiting(0)).at("write")?;
    // A program that is open for writing is not started.
    drop(file);
    calls::process::run(app)
}
