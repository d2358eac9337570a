//! `fsopen`, `fsmount` and `move_mount` bring a file system without `mount(2)`. One that lies elsewhere on the network is
//! connected to before anything is mounted, by the kernel itself, so the first of them is refused.

use nix::mount::{MsFlags, mount};

use crate::calls::mounts;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "new-file-system",
    told: "mount a file system of my own",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["mount", "{dir}/victim"])
            .directory("{dir}/victim")
            .allowed_by("privileges.allow", "mount")
            .refused(Hook::SbMount, Family::Privilege, Reason::Privilege)
            .about("mount"),
        ATTACK
            .row(&["fsmount", "{dir}/victim"])
            .directory("{dir}/victim")
            .allowed_by("privileges.allow", "mount")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("mount"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, victim] = arguments(words)?;
    if how == "mount" {
        let done = mount(Some("tmpfs"), victim, Some("tmpfs"), MsFlags::empty(), None::<&str>);
        return done.at("mount").map(calls::nothing);
    }
    let context = mounts::fsopen("tmpfs")?;
    mounts::configure(&context, mounts::CREATE)?;
    mounts::move_mount(&mounts::fsmount(&context, 0)?, victim)
}
