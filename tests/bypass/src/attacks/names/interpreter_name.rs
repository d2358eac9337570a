//! A program's own name may be longer than what is read of an argument at once. What follows is no script.

use std::ffi::CString;

use crate::calls::process::{BUSYBOX, BUSYBOX_C, spawn};
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "interpreter-name",
    told: "hide inline code behind a name that goes on like a listed script",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/sh"])
            .given("exec.allow", BUSYBOX)
            .given("interpreters.programs", BUSYBOX)
            .given("interpreters.code", "{dir}/sh")
            .allowed_by("interpreters.options", "-c")
            .refused(Hook::BprmCommittedCreds, Family::Exec, Reason::NoRule)
            .needing("code")
            .about("-c"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [listed] = arguments(words)?;
    // 4096 bytes, and the listed name.
    let name = CString::new(format!("{}{listed}", "x".repeat(4096))).unwrap_or_default();
    spawn(|| {
        let arguments = [name.clone(), c"-c".into(), c"exit 0".into()];
        nix::unistd::execv(BUSYBOX_C, &arguments).map_or_else(|error| error, |never| match never {})
    })
}
