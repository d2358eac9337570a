//! A file of a lower layer is copied to the upper one before it changes.

use std::os::unix::fs::PermissionsExt;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "overlay-copy-up",
    told: "change a file in an overlay, which copies it",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let change = |how: &str, hook: Hook| {
        ATTACK
            .row(&[how, "{dir}/merged/secret"])
            .prepared(calls::mounts::overlay)
            .given("file.read", "{dir}/merged/secret")
            .allowed_by("file.write", "{dir}/merged/secret")
            .refused(hook, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/merged/secret")
            .optional()
    };
    vec![change("write", Hook::FileOpen), change("chmod", Hook::PathChmod)]
}

fn run(words: &[&str]) -> Outcome {
    let [how, path] = arguments(words)?;
    if how == "write" {
        return calls::files::touch(path, OFlag::O_WRONLY);
    }
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).at("chmod").map(calls::nothing)
}
