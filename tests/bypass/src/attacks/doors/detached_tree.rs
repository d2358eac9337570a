//! A detached copy of a mount has no place, so its files have no names.

use crate::calls::mounts;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "detached-tree",
    told: "use a mount that is attached nowhere",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["read", "{dir}"])
            .file("{dir}/secret")
            .given("file.read", "/secret")
            .refused(Hook::FileOpen, Family::File, Reason::Unreachable)
            .needing("read")
            .unlistable(),
        ATTACK
            .row(&["start", "{dir}"])
            .stub("{dir}/evil", 0)
            .given("exec.allow", "/evil")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::Unreachable)
            .needing("exec")
            .unlistable(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, directory] = arguments(words)?;
    let tree = mounts::open_tree(directory)?;
    if how == "start" {
        let program = nix::fcntl::openat(&tree, "evil", OFlag::O_PATH, nix::sys::stat::Mode::empty());
        let program = program.at("openat")?;
        return calls::process::spawn(|| calls::process::exec_descriptor(&program));
    }
    let secret = nix::fcntl::openat(&tree, "secret", OFlag::O_RDONLY, nix::sys::stat::Mode::empty());
    calls::files::steal_from(secret.at("openat")?)
}
