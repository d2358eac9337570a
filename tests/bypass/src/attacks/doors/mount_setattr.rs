//! `mount_setattr` changes what a mount allows, and asks security modules for the capability only.

use crate::calls::mounts;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "mount-setattr",
    told: "make a read-only mount writable with mount_setattr",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let changed = |how: &str| {
        ATTACK
            .row(&[how, "{dir}/mnt"])
            .directory("{dir}/mnt")
            .prepared(read_only)
            .given("file.create", "{dir}/mnt/*")
            .allowed_by("privileges.allow", "mount")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("mount")
    };
    // The second since 6.15.
    vec![changed("mount_setattr"), changed("open_tree_attr").optional()]
}

fn run(words: &[&str]) -> Outcome {
    const OPEN_TREE_ATTR: libc::c_long = 467;
    let [how, at] = arguments(words)?;
    let path = calls::c_string(at).at("path")?;
    // struct mount_attr: to set, to clear, propagation, user namespace.
    let attributes = [0_u64, mounts::READ_ONLY.into(), 0, 0];
    let number = if how == "open_tree_attr" { OPEN_TREE_ATTR } else { libc::SYS_mount_setattr };
    // SAFETY: the path ends in NUL and the attributes are as long as said.
    let set = unsafe {
        libc::syscall(number, libc::AT_FDCWD, path.as_ptr(), 0, attributes.as_ptr(), size_of_val(&attributes))
    };
    calls::check(set).at(how)?;
    std::fs::write(format!("{at}/written"), "").at("write").map(calls::nothing)
}

fn read_only(directory: &Path) {
    let mounted = || {
        let context = mounts::fsopen("tmpfs")?;
        mounts::configure(&context, mounts::CREATE)?;
        let at = directory.join("mnt");
        let mount = mounts::fsmount(&context, mounts::READ_ONLY)?;
        mounts::move_mount(&mount, at.to_str().expect("the path is text"))
    };
    let outcome = mounted();
    assert!(outcome.is_ok(), "mounting a tmpfs: {outcome:?}");
}
