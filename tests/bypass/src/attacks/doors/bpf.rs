//! A BPF program can take the enforcer away.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "bpf",
    told: "load BPF objects, or open those of the enforcer",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["create"])
            .allowed_by("privileges.allow", "bpf")
            .refused(Hook::Bpf, Family::Privilege, Reason::Privilege)
            .about("bpf"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    calls::bpf::array().at("bpf").map(calls::nothing)
}
