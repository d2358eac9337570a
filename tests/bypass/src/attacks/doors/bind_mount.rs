//! A bind mount shows one object under the name of another.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "bind-mount",
    told: "mount my program over a listed one",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["here", "{dir}/evil", "{dir}/app"])
            .stub("{dir}/evil", 0)
            .stub("{dir}/app", 1)
            .given("exec.allow", "{dir}/app")
            .allowed_by("privileges.allow", "mount")
            .refused(Hook::SbMount, Family::Privilege, Reason::Privilege)
            .about("mount"),
        ATTACK
            .row(&["own-namespace", "{dir}/evil", "{dir}/app"])
            .stub("{dir}/evil", 0)
            .stub("{dir}/app", 1)
            .given("exec.allow", "{dir}/app")
            .allowed_by("privileges.allow", "mount")
            .refused(Hook::SbMount, Family::Privilege, Reason::Privilege)
            .about("mount"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, evil, app] = arguments(words)?;
    let act = || {
        mount(Some(evil), app, None::<&str>, MsFlags::MS_BIND, None::<&str>).at("mount")?;
        calls::process::run(app)
    };
    if how == "here" {
        return act();
    }
    calls::process::in_child(|| {
        unshare(CloneFlags::CLONE_NEWNS).at("unshare")?;
        act()
    })
}
