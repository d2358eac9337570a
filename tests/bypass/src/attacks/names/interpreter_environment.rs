//! A listed interpreter, a listed script, and code that stands in a variable.

use std::ffi::CString;

use crate::calls::process::{BUSYBOX, BUSYBOX_C, spawn};
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "interpreter-environment",
    told: "have a listed script's interpreter run code from its environment",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

/// What shells evaluate before each command that they trace.
const PROMPT: &str = "PS4=$((stolen=1))";

fn rows() -> Vec<Case> {
    let row = |listed: &str| {
        ATTACK
            .row(&["{dir}/script"])
            .prepared(script)
            .given("exec.allow", BUSYBOX)
            .given("interpreters.programs", BUSYBOX)
            .given("interpreters.code", "{dir}/script")
            .allowed_by("interpreters.environment", listed)
            .refused(Hook::BprmCommittedCreds, Family::Exec, Reason::NoRule)
            .needing("code")
            .about("$PS4")
    };
    vec![row("PS4"), row(PROMPT)]
}

/// A script that ends well only if somebody else's code ran in it.
fn script(directory: &Path) {
    std::fs::write(directory.join("script"), "set -x\n:\ntest $((stolen)) = 1\n").expect("writing a script");
}

fn run(words: &[&str]) -> Outcome {
    let [script] = arguments(words)?;
    let script = calls::c_string(script).at("script")?;
    let prompt = calls::c_string(PROMPT).at("variable")?;
    // Much that says nothing comes first, in more than one read.
    let ballast = CString::new(format!("BALLAST={}", "x".repeat(9000))).unwrap_or_default();
    spawn(|| {
        let arguments = [c"sh".into(), script.clone()];
        nix::unistd::execve(BUSYBOX_C, &arguments, &[ballast.clone(), prompt.clone()])
            .map_or_else(|error| error, |never| match never {})
    })
}
