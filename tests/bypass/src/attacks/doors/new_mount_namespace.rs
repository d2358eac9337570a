//! In a mount namespace that starts at a directory, all names below are shorter.

use nix::sched::{CloneFlags, setns};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "new-mount-namespace",
    told: "make a directory the root of a mount namespace, so that my files look listed",
    kernels: Kernels::Only(&["7"]),
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}"])
            .file("{dir}/secret")
            .given("file.read", "/secret")
            // The descriptor of a namespace is an open file without a name.
            .given("file.unlinked", "true")
            .allowed_by("privileges.allow", "mount")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("mount"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    const OPEN_TREE_NAMESPACE: u32 = 2;
    let [directory] = arguments(words)?;
    let path = calls::c_string(directory).at("path")?;
    // SAFETY: the path ends in NUL.
    let namespace =
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), OPEN_TREE_NAMESPACE) };
    let namespace = calls::descriptor(namespace).at("open_tree")?;
    calls::process::in_child(|| {
        setns(&namespace, CloneFlags::CLONE_NEWNS).at("setns")?;
        calls::files::steal("/secret")
    })
}
