//! In a root of its own choice, an attacker's files have listed names.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "chroot",
    told: "change root, so that my files look listed",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let jail = || {
        ATTACK
            .row(&["{dir}/jail", "/etc/listed"])
            .directory("{dir}/jail/etc")
            .file("{dir}/jail/etc/listed")
            .given("file.read", "/etc/listed")
            .allowed_by("file.read", "{dir}/jail/etc/listed")
    };
    vec![
        jail()
            .allowed_by("privileges.allow", "chroot")
            .refused(Hook::PathChroot, Family::Privilege, Reason::Privilege)
            .about("chroot"),
        // Changing root is allowed: the file keeps its real name.
        jail()
            .given("privileges.allow", "chroot")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/jail/etc/listed"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [jail, listed] = arguments(words)?;
    calls::process::in_child(|| {
        nix::unistd::chroot(jail).at("chroot")?;
        calls::files::steal(listed)
    })
}
