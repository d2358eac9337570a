//! A program without a name any more.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "exec-deleted",
    told: "delete a listed program and start what I still hold of it",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/gone"])
            .stub("{dir}/gone", 0)
            .given("exec.allow", "{dir}/gone")
            .given("file.write", "{dir}/gone")
            .allowed_by("exec.unlinked", "true")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::Unlinked)
            .needing("exec")
            .about("gone"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [program] = arguments(words)?;
    let held = calls::files::open(program, OFlag::O_PATH)?;
    std::fs::remove_file(program).at("unlink")?;
    calls::process::spawn(|| calls::process::exec_descriptor(&held))
}
