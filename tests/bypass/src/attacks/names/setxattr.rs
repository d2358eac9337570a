//! Extended attributes carry capabilities and labels.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "setxattr",
    told: "put a label on a file",
    kernels: Kernels::All,
    ordinary: false,
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
            .refused(Hook::InodeSetxattr, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let path = calls::c_string(victim).at("path")?;
    // SAFETY: both names end in NUL and the value is one byte long.
    let set = unsafe { libc::setxattr(path.as_ptr(), c"trusted.test".as_ptr(), c"1".as_ptr().cast(), 1, 0) };
    calls::check(set).at("setxattr").map(calls::nothing)
}
