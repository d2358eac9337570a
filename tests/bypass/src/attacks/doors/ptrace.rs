//! A tracer owns the process that it traces.

use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "ptrace",
    told: "trace a process outside",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["seize", "{victim}"])
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace"),
        ATTACK
            .row(&["attach", "{victim}"])
            .allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, victim] = arguments(words)?;
    let victim = Pid::from_raw(calls::number(victim)?);
    if how == "seize" {
        ptrace::seize(victim, ptrace::Options::empty()).at("ptrace")?;
        ptrace::interrupt(victim).at("interrupt")?;
    } else {
        ptrace::attach(victim).at("ptrace")?;
    }
    nix::sys::wait::waitpid(victim, None).at("waitpid")?;
    ptrace::detach(victim, None).at("detach").map(calls::nothing)
}
