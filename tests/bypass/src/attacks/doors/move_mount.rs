//! `open_tree` and `move_mount` mount without `mount(2)`.

use crate::calls::mounts;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "move-mount",
    told: "mount my program over a listed one with the new system calls",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/evil", "{dir}/app"])
            .stub("{dir}/evil", 0)
            .stub("{dir}/app", 1)
            .given("exec.allow", "{dir}/app")
            .allowed_by("privileges.allow", "mount")
            .refused(Hook::MoveMount, Family::Privilege, Reason::Privilege)
            .about("mount"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [evil, app] = arguments(words)?;
    let tree = mounts::open_tree(evil)?;
    mounts::move_mount(&tree, app)?;
    calls::process::run(app)
}
