//! Every way to open for writing, and to empty a file by opening it.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "open-for-writing",
    told: "change a file by opening it",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let open = |how: &str| {
        ATTACK
            .row(&[how, "{dir}/victim"])
            .file("{dir}/victim")
            .given("file.read", "{dir}/victim")
            .allowed_by("file.write", "{dir}/victim")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/victim")
    };
    vec![
        open("write"),
        open("append"),
        open("truncate"),
        open("read-truncate"),
        open("create"),
        open("update"),
        // An access mode of 3 opens for ioctl only.
        open("ioctl"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, victim] = arguments(words)?;
    let flags = match how {
        "append" => OFlag::O_WRONLY | OFlag::O_APPEND,
        "truncate" => OFlag::O_WRONLY | OFlag::O_TRUNC,
        "read-truncate" => OFlag::O_RDONLY | OFlag::O_TRUNC,
        "create" => OFlag::O_WRONLY | OFlag::O_CREAT,
        "update" => OFlag::O_RDWR,
        "ioctl" => OFlag::O_WRONLY | OFlag::O_RDWR,
        _ => OFlag::O_WRONLY,
    };
    calls::files::touch(victim, flags)
}
