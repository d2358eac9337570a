//! A ring can have a kernel thread submit, and borrow other credentials.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "io-uring-setup",
    told: "have io_uring work with other credentials or by a thread of the kernel",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["sqpoll"])
            .allowed_by("privileges.allow", "uring-command")
            .refused(Hook::UringSqpoll, Family::Privilege, Reason::Privilege)
            .about("uring-command"),
        ATTACK
            .row(&["personality"])
            .allowed_by("privileges.allow", "uring-command")
            .refused(Hook::UringOverrideCreds, Family::Privilege, Reason::Privilege)
            .about("uring-command"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    if how == "sqpoll" {
        return calls::uring::ring("sqpoll").map(calls::nothing);
    }
    calls::uring::ring("plain")?.with_personality().at("io_uring personality").map(calls::nothing)
}
