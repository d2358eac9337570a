//! A hard link gives a secret a readable name.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "hard-link-to-secret",
    told: "link a secret to a name I may read",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/secret", "{dir}/readable"])
            .file("{dir}/secret")
            .given("file.read", "{dir}/readable")
            .given("file.create", "{dir}/readable")
            .allowed_by("file.read", "{dir}/secret")
            .allowed_by("file.write", "{dir}/secret")
            .refused(Hook::PathLink, Family::File, Reason::NoRule)
            .about("{dir}/secret"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [secret, readable] = arguments(words)?;
    std::fs::hard_link(secret, readable).at("link")?;
    calls::files::steal(readable)
}
