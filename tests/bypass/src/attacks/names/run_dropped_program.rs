//! What is not listed is not started, wherever it lies.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "run-dropped-program",
    told: "run a program that I brought along",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let evil = |path: &str| {
        ATTACK
            .row(&[path])
            .stub(path, 0)
            .allowed_by("exec.allow", path)
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about(path)
    };
    vec![
        evil("{dir}/evil"),
        evil("{dir}/data").given("file.read", "{dir}/data"),
        evil("{dir}/lib.so").given("memory.libraries", "{dir}/lib.so"),
        // Beside the glob.
        ATTACK
            .row(&["{dir}/bin/deep/evil"])
            .directory("{dir}/bin/deep")
            .stub("{dir}/bin/deep/evil", 0)
            .given("exec.allow", "{dir}/bin/*")
            .allowed_by("exec.allow", "{dir}/bin/**")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/bin/deep/evil"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [evil] = arguments(words)?;
    calls::process::run(evil)
}
