//! A rename gives a secret a readable name.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "rename-secret",
    told: "move a secret to a name I may read",
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
            .given("file.write", "{dir}/secret")
            .given("file.read", "{dir}/readable")
            .given("file.create", "{dir}/readable")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::PathRename, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [secret, readable] = arguments(words)?;
    std::fs::rename(secret, readable).at("rename")?;
    calls::files::steal(readable)
}
