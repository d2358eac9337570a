//! The program that is judged must be the program that runs.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "replace-program",
    told: "change which program a name leads to while I start it",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}"])
            .stub("{dir}/evil", 0)
            .stub("{dir}/good", 1)
            .directory("{dir}/spool")
            .given("exec.allow", "{dir}/good")
            .given("file.read", "{dir}/spool/*")
            .given("file.create", "{dir}/spool/*")
            .allowed_by("exec.allow", "{dir}/evil")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/evil")
            .repeatedly(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [directory] = arguments(words)?;
    let at = |name: &str| format!("{directory}/{name}");
    let (current, other) = (at("spool/current"), at("spool/other"));
    let targets = [at("good"), at("evil")];
    std::os::unix::fs::symlink(&targets[0], &current).at("symlink")?;
    let disturb = || {
        for target in &targets {
            // Each may fail without harm: the next round comes.
            let _ = std::os::unix::fs::symlink(target, &other);
            let _ = std::fs::rename(&other, &current);
        }
    };
    // The good program ends with another status, which is no success.
    calls::race::against(disturb, || calls::process::run(&current))
}
