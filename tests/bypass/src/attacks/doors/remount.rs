//! A file system that was mounted read-only becomes writable again.

use nix::mount::{MsFlags, mount};

use crate::calls::mounts;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "remount",
    told: "remount a read-only file system for writing",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let remount = |how: &str, hook: Hook| {
        ATTACK
            .row(&[how, "{dir}/mnt"])
            .directory("{dir}/mnt")
            .prepared(read_only)
            .given("file.create", "{dir}/mnt/*")
            .allowed_by("privileges.allow", "mount")
            .refused(hook, Family::Privilege, Reason::Privilege)
            .about("mount")
    };
    vec![remount("mount", Hook::SbMount), remount("fsconfig", Hook::SbRemount)]
}

fn run(words: &[&str]) -> Outcome {
    let [how, at] = arguments(words)?;
    if how == "mount" {
        mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT, None::<&str>).at("mount")?;
    } else {
        let context = mounts::fspick(at)?;
        mounts::set_flag(&context, c"rw")?;
        mounts::configure(&context, mounts::RECONFIGURE)?;
    }
    std::fs::write(format!("{at}/written"), "").at("write").map(calls::nothing)
}

/// A file system that is read-only itself, not only where it is mounted.
fn read_only(directory: &Path) {
    let mounted = || {
        let context = mounts::fsopen("tmpfs")?;
        mounts::set_flag(&context, c"ro")?;
        mounts::configure(&context, mounts::CREATE)?;
        let at = directory.join("mnt");
        mounts::move_mount(&mounts::fsmount(&context, 0)?, at.to_str().expect("the path is text"))
    };
    let outcome = mounted();
    assert!(outcome.is_ok(), "mounting a tmpfs: {outcome:?}");
}
