//! The plain case, and every other way to open by name.

use nix::fcntl::{AT_FDCWD, OpenHow, ResolveFlag, openat2};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "read-secret",
    told: "read a file that is not listed",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let secret = |how: &str| {
        ATTACK
            .row(&[how, "{dir}/secret"])
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret")
    };
    vec![
        secret("open"),
        secret("openat2"),
        secret("io_uring"),
        secret("io_uring-async"),
        // The submission thread is the task's own, with its label.
        secret("io_uring-sqpoll").given("privileges.allow", "uring-command"),
        // Reading is one thing, reading what may only be written another.
        secret("open").given("file.write", "{dir}/secret"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, secret] = arguments(words)?;
    match how {
        "openat2" => {
            let how = OpenHow::new().flags(OFlag::O_RDONLY).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
            calls::files::steal_from(openat2(AT_FDCWD, secret, how).at("openat2")?)
        }
        "io_uring" => calls::uring::steal(&calls::uring::ring("plain")?, secret),
        "io_uring-async" => calls::uring::steal(&calls::uring::ring("async")?, secret),
        "io_uring-sqpoll" => calls::uring::steal(&calls::uring::ring("sqpoll")?, secret),
        _ => calls::files::steal(secret),
    }
}
