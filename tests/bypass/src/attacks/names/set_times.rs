//! Times tell when a file was changed, unless they were set.

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "set-times",
    told: "cover my tracks by setting a file's times",
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
            .refused(Hook::InodeSetattr, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let past = TimeSpec::new(1, 0);
    utimensat(AT_FDCWD, victim, &past, &past, UtimensatFlags::FollowSymlink)
        .at("utimensat")
        .map(calls::nothing)
}
