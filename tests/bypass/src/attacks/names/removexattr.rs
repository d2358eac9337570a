//! Taking a label away is changing the file.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "removexattr",
    told: "take a label off a file",
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
            .prepared(label)
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::InodeRemovexattr, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [victim] = arguments(words)?;
    let path = calls::c_string(victim).at("path")?;
    // SAFETY: both names end in NUL.
    let removed = unsafe { libc::removexattr(path.as_ptr(), c"trusted.test".as_ptr()) };
    calls::check(removed).at("removexattr").map(calls::nothing)
}

fn label(directory: &Path) {
    let victim = directory.join("victim");
    let path = calls::c_string(victim.to_str().expect("the path is text")).expect("no NUL in it");
    // SAFETY: both names end in NUL and the value is one byte long.
    let set = unsafe { libc::setxattr(path.as_ptr(), c"trusted.test".as_ptr(), c"1".as_ptr().cast(), 1, 0) };
    assert_eq!(set, 0, "labelling {}", victim.display());
}
