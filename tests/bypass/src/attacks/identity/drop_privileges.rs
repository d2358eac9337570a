//! Another user, fewer rights, a filter: still the same workload.

use nix::sched::{CloneFlags, unshare};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "drop-privileges",
    told: "change who I am before I read",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let birth = |how: &str| {
        ATTACK
            .row(&[how, "{dir}/secret"])
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret")
    };
    vec![
        birth("user"),
        birth("no-new-privileges"),
        birth("dumpable"),
        birth("namespaces"),
        birth("keep-capabilities"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, secret] = arguments(words)?;
    calls::process::in_child(|| {
        match how {
            "user" => {
                let user = nix::unistd::Uid::from_raw(1000);
                nix::unistd::setresuid(user, user, user).at("setresuid")?;
            }
            "namespaces" => {
                let all = CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWNET
                    | CloneFlags::CLONE_NEWUTS
                    | CloneFlags::CLONE_NEWIPC
                    | CloneFlags::CLONE_NEWCGROUP;
                unshare(all).at("unshare")?;
            }
            "no-new-privileges" => control(libc::PR_SET_NO_NEW_PRIVS, 1)?,
            "dumpable" => control(libc::PR_SET_DUMPABLE, 0)?,
            _ => control(libc::PR_SET_KEEPCAPS, 1)?,
        }
        calls::files::steal(secret)
    })
}

fn control(option: i32, value: libc::c_ulong) -> Result<(), Failure> {
    // SAFETY: these options take no pointers.
    calls::check(unsafe { libc::prctl(option, value, 0, 0, 0) }).at("prctl").map(drop)
}
