//! Overlayfs opens a second file below the one that was asked for, and copies files up when they change.

use std::os::unix::fs::PermissionsExt;

use enforcer_vm_tests::scenario::make_executable;
use enforcer_vm_tests::stub;
use nix::mount::{MsFlags, mount};

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
            .prepared(overlay)
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
        // Opening for writing copies the file up.
        layered("write", merged).given("file.read", merged).allowed_by("file.write", merged).needing("write"),
        layered("chmod", merged)
            .given("file.read", merged)
            .allowed_by("file.write", merged)
            .needing("write")
            .refused(Hook::PathChmod, Family::File, Reason::NoRule),
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
        "write" => calls::files::touch(path, OFlag::O_WRONLY),
        "chmod" => {
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(path, mode).at("chmod").map(calls::nothing)
        }
        "unlink" => std::fs::remove_file(path).at("unlink").map(calls::nothing),
        "exec" => calls::process::run(path),
        _ => calls::files::steal(path),
    }
}

fn overlay(directory: &Path) {
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(directory.join(name)).expect("creating a layer");
    }
    std::fs::write(directory.join("lower/secret"), "secret").expect("creating a file");
    make_executable(&directory.join("lower/evil"), &stub::exiting(0));
    let layer = |name: &str| format!("{}/{name}", directory.display());
    let options =
        format!("lowerdir={},upperdir={},workdir={}", layer("lower"), layer("upper"), layer("work"));
    let at = directory.join("merged");
    let mounted = mount(Some("overlay"), &at, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    if let Err(error) = mounted {
        println!("overlayfs is not to be had: {error}");
    }
}
