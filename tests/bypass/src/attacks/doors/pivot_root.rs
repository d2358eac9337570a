//! `pivot_root` changes what all paths are relative to.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "pivot-root",
    told: "make another file system the root",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/root"])
            .directory("{dir}/root")
            .prepared(another_root)
            .allowed_by("privileges.allow", "pivot-root")
            .refused(Hook::SbPivotroot, Family::Privilege, Reason::Privilege)
            .about("pivot-root"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [root] = arguments(words)?;
    calls::process::in_child(|| {
        unshare(CloneFlags::CLONE_NEWNS).at("unshare")?;
        nix::unistd::pivot_root(root, format!("{root}/old").as_str()).at("pivot_root").map(calls::nothing)
    })
}

fn another_root(directory: &Path) {
    let at = directory.join("root");
    mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mounting a tmpfs");
    std::fs::create_dir(at.join("old")).expect("making a place for the old root");
}
