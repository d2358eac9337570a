//! `io_uring` deletes like the system call does.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "io-uring-unlink",
    told: "delete a file through io_uring",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim"])
            .file("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::PathUnlink, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let path = calls::c_string(victim).at("path")?;
    calls::uring::ring("async")?.unlink(&path).at("unlinkat by io_uring").map(calls::nothing)
}
