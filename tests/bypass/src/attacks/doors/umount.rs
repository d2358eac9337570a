//! What is mounted over something hides it.

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "umount",
    told: "unmount what hides a file",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/mnt"])
            .directory("{dir}/mnt")
            .file("{dir}/mnt/secret")
            .prepared(hide)
            .given("file.read", "{dir}/mnt/secret")
            .allowed_by("privileges.allow", "mount")
            .refused(Hook::SbUmount, Family::Privilege, Reason::Privilege)
            .about("mount"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [at] = arguments(words)?;
    umount2(at, MntFlags::MNT_DETACH).at("umount2")?;
    calls::files::steal(&format!("{at}/secret"))
}

fn hide(directory: &Path) {
    let at = directory.join("mnt");
    mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mounting a tmpfs");
}
