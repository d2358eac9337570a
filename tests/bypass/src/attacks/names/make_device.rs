//! A device node of one's own is a door to the device, whatever the rules say about `/dev`.

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "make-device",
    told: "make a device node of my own",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/null"])
            .given("file.create", "{dir}/null")
            .allowed_by("privileges.allow", "make-device")
            .refused(Hook::PathMknod, Family::Privilege, Reason::Privilege)
            .about("make-device"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [path] = arguments(words)?;
    // 1:3 is /dev/null everywhere.
    mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).at("mknod").map(calls::nothing)
}
