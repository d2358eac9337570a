//! Pinned BPF objects are found by their names, and names are changed without the `bpf` system call.

use nix::mount::{MsFlags, mount};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "bpf-names",
    told: "rename, remove or replace the names of pinned BPF objects",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |how: &str, hook: Hook, right: &'static str, list: &'static str, name: &str| {
        ATTACK
            .row(&[how, "{dir}/bpf"])
            .prepared(pin)
            .refused(hook, Family::File, Reason::NoRule)
            .needing(right)
            .about(name)
            .allowed_by(list, name)
    };
    let (old, new) = ("{dir}/bpf/pin", "{dir}/bpf/new");
    vec![
        row("unlink", Hook::PathUnlink, "write", "file.write", old),
        row("rename", Hook::PathRename, "write", "file.write", old)
            .given("file.read", old)
            .given("file.create", new),
        row("link", Hook::PathLink, "create", "file.create", new)
            .given("file.read", old)
            .given("file.write", old),
        row("symlink", Hook::PathSymlink, "create", "file.create", new),
        row("mkdir", Hook::PathMkdir, "create", "file.create", new),
        row("pin", Hook::PathMknod, "create", "file.create", new).given("privileges.allow", "bpf"),
    ]
}

/// Mounts a BPF file system of the row's own, with a pinned map in it.
fn pin(directory: &Path) {
    let bpf = directory.join("bpf");
    std::fs::create_dir_all(&bpf).expect("making a place for a BPF file system");
    mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), None::<&str>)
        .expect("mounting a BPF file system");
    let map = calls::bpf::array().expect("making a map");
    calls::bpf::pin(&map, &bpf.join("pin").to_string_lossy()).expect("pinning a map");
}

fn run(words: &[&str]) -> Outcome {
    let [how, directory] = arguments(words)?;
    let (old, new) = (format!("{directory}/pin"), format!("{directory}/new"));
    match how {
        "unlink" => std::fs::remove_file(old).at("unlink"),
        "rename" => std::fs::rename(old, new).at("rename"),
        "link" => std::fs::hard_link(old, new).at("link"),
        "symlink" => std::os::unix::fs::symlink(old, new).at("symlink"),
        "mkdir" => std::fs::create_dir(new).at("mkdir"),
        _ => calls::bpf::array().and_then(|map| calls::bpf::pin(&map, &new)).at("pin"),
    }
    .map(calls::nothing)
}
