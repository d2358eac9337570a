//! Process accounting has the kernel write to a file.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "account-into-file",
    told: "have the kernel write its accounting into a file",
    kernels: Kernels::Only(&["6.1", "6.12"]),
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/victim"])
            .file("{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim")
            .optional(),
    ]
}

pub(super) fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let path = calls::c_string(victim).at("path")?;
    // SAFETY: the name ends in NUL.
    calls::check(unsafe { libc::acct(path.as_ptr()) }).at("acct")?;
    // SAFETY: no name switches accounting off again.
    calls::check(unsafe { libc::acct(core::ptr::null()) }).at("acct off").map(calls::nothing)
}
