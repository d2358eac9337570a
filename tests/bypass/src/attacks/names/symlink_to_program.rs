//! A symbolic link under a listed name leads to another program.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "symlink-to-program",
    told: "start my program through a symbolic link with a listed name",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/app"])
            .stub("{dir}/evil", 0)
            .symlink("{dir}/app", "{dir}/evil")
            .given("exec.allow", "{dir}/app")
            .allowed_by("exec.allow", "{dir}/evil")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/evil"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [app] = arguments(words)?;
    calls::process::run(app)
}
