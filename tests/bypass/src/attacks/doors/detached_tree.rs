//! A detached copy of a mount has no place, so its files have no names.

use crate::calls::mounts;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "detached-tree",
    told: "read a secret in a mount that is attached nowhere",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}"])
            .file("{dir}/secret")
            .given("file.read", "/secret")
            .refused(Hook::FileOpen, Family::File, Reason::Unreachable)
            .needing("read")
            .unlistable(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [directory] = arguments(words)?;
    let tree = mounts::open_tree(directory)?;
    let secret = nix::fcntl::openat(&tree, "secret", OFlag::O_RDONLY, nix::sys::stat::Mode::empty());
    calls::files::steal_from(secret.at("openat")?)
}
