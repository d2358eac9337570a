//! A process can hand itself to a tracer outside: its parent.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "traceme",
    told: "hand myself to a tracer outside",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["traceme"])
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceTraceme, Family::Privilege, Reason::Privilege)
            .about("ptrace"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    // A sister of ours: her parent is ours, outside the workload.
    let channel = calls::process::Channel::new()?;
    match calls::process::clone3(u64::from(libc::CLONE_PARENT.unsigned_abs()), 0, 0).at("clone3")? {
        None => {
            let outcome = nix::sys::ptrace::traceme().at("traceme").map(calls::nothing);
            channel.finish(outcome)
        }
        Some(_) => {
            channel.outcome()?.unwrap_or_else(|| Err(failure("the sister ended silently", libc::ECHILD)))
        }
    }
}
