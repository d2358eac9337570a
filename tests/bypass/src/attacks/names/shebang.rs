//! A script is two programs, and both must be listed.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "shebang",
    told: "have a script started by its first line",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let script = || {
        ATTACK.row(&["{dir}/script"]).stub("{dir}/interpreter", 0).script("{dir}/script", "{dir}/interpreter")
    };
    vec![
        script()
            .given("exec.allow", "{dir}/interpreter")
            .allowed_by("exec.allow", "{dir}/script")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/script"),
        script()
            .given("exec.allow", "{dir}/script")
            .allowed_by("exec.allow", "{dir}/interpreter")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/interpreter"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [script] = arguments(words)?;
    calls::process::run(script)
}
