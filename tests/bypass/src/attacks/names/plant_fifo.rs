//! A fifo blocks whoever opens it.

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::prelude::*;

pub(crate) const ATTACK: Attack =
    Attack { name: "plant-fifo", told: "plant a fifo", kernels: Kernels::All, ordinary: true, rows, run };

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/new"])
            .allowed_by("file.create", "{dir}/new")
            .refused(Hook::PathMknod, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/new"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [path] = arguments(words)?;
    mknod(path, SFlag::S_IFIFO, Mode::S_IRUSR, 0).at("mknod").map(calls::nothing)
}
