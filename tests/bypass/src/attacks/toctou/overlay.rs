//! Overlayfs opens a second file below the one that was asked for.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "overlay",
    told: "reach a file through the layers of an overlay",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let layered = |how: &str, path: &str| {
        ATTACK
            .row(&[how, path])
            .prepared(calls::mounts::overlay)
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .about(path)
            .optional()
    };
    let merged = "{dir}/merged/secret";
    vec![
        layered("read", merged).allowed_by("file.read", merged).needing("read"),
        // What may be read in the overlay has other names below it.
        layered("read", "{dir}/lower/secret")
            .given("file.read", merged)
            .allowed_by("file.read", "{dir}/lower/secret")
            .needing("read"),
        layered("unlink", merged)
            .given("file.read", merged)
            .allowed_by("file.write", merged)
            .needing("write")
            .refused(Hook::PathUnlink, Family::File, Reason::NoRule),
        layered("exec", "{dir}/merged/evil")
            .allowed_by("exec.allow", "{dir}/merged/evil")
            .needing("exec")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, path] = arguments(words)?;
    match how {
        "unlink" => std::fs::remove_file(path).at("unlink").map(calls::nothing),
        "exec" => calls::process::run(path),
        _ => calls::files::steal(path),
    }
}
