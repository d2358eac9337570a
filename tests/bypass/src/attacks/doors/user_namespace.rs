//! In a user namespace of its own, anybody is root.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "user-namespace",
    told: "become root in a namespace of my own, and mount my program over a listed one",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["unshare", "{dir}/evil", "{dir}/app"])
            .stub("{dir}/evil", 0)
            .stub("{dir}/app", 1)
            .given("exec.allow", "{dir}/app")
            .allowed_by("privileges.allow", "user-namespace")
            .refused(Hook::UsernsCreate, Family::Privilege, Reason::Privilege)
            .about("user-namespace")
            .allowed_by("privileges.allow", "mount"),
        ATTACK
            .row(&["clone", "{dir}/evil", "{dir}/app"])
            .stub("{dir}/evil", 0)
            .stub("{dir}/app", 1)
            .given("exec.allow", "{dir}/app")
            .allowed_by("privileges.allow", "user-namespace")
            .refused(Hook::UsernsCreate, Family::Privilege, Reason::Privilege)
            .about("user-namespace")
            .allowed_by("privileges.allow", "mount"),
        // Being root there is allowed, mounting is not.
        ATTACK
            .row(&["unshare", "{dir}/evil", "{dir}/app"])
            .stub("{dir}/evil", 0)
            .stub("{dir}/app", 1)
            .given("exec.allow", "{dir}/app")
            .given("privileges.allow", "user-namespace")
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
    if how == "unshare" {
        return calls::process::in_child(|| {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).at("unshare")?;
            act()
        });
    }
    let channel = calls::process::Channel::new()?;
    let flags = u64::from((libc::CLONE_NEWUSER | libc::CLONE_NEWNS).unsigned_abs());
    match calls::process::clone3(flags, libc::SIGCHLD, 0).at("clone3")? {
        None => {
            let outcome = act();
            channel.finish(outcome)
        }
        Some(child) => calls::process::finished(channel, child),
    }
}
