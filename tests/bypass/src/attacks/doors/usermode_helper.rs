//! The kernel starts helpers by names that are written into its own files: as root, outside the workload.

use std::io::Write;

use nix::mount::{MsFlags, mount};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "usermode-helper",
    told: "have the kernel start a helper of mine",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let helper = |path: &str| {
        ATTACK
            .row(&[path])
            .allowed_by("file.write", path)
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("write")
            .about(path)
    };
    vec![
        helper("/proc/sys/kernel/core_pattern"),
        helper("/proc/sys/kernel/modprobe"),
        helper("/proc/sys/kernel/poweroff_cmd").optional(),
        helper("/sys/kernel/uevent_helper").optional(),
        helper("{dir}/binfmt/register").directory("{dir}/binfmt").prepared(binary_formats).optional(),
        helper("{dir}/v1/release_agent").prepared(version_one).optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [path] = arguments(words)?;
    // What it is already: the machine has other tests to run.
    let setting = SETTINGS.iter().find(|(file, _)| path.ends_with(file)).map_or("", |(_, setting)| setting);
    let file = calls::files::open(path, OFlag::O_WRONLY)?;
    std::fs::File::from(file).write_all(setting.as_bytes()).at("write").map(calls::nothing)
}

/// Harmless settings.
const SETTINGS: &[(&str, &str)] = &[
    ("core_pattern", "core"),
    ("modprobe", "/sbin/modprobe"),
    ("poweroff_cmd", "/sbin/poweroff"),
    ("uevent_helper", "\n"),
    ("release_agent", "/bin/true"),
    // A magic number that no file here begins with.
    ("binfmt/register", ":bypass:M::enforcer-bypass::/bin/true:"),
];

/// Where interpreters of binary formats are registered. Without any: they are registered anew each time.
fn binary_formats(directory: &Path) {
    let at = directory.join("binfmt");
    if let Err(error) = mount(Some("none"), &at, Some("binfmt_misc"), MsFlags::empty(), None::<&str>) {
        println!("no binfmt_misc: {error}");
        return;
    }
    let registered = at.join("bypass");
    if registered.exists() {
        std::fs::write(registered, "-1").expect("removing a binary format");
    }
}

/// A cgroup hierarchy of version 1, whose agent is started when a cgroup empties. Not every kernel has one.
fn version_one(directory: &Path) {
    let at = directory.join("v1");
    std::fs::create_dir(&at).expect("making a mount point");
    let mounted = mount(Some("none"), &at, Some("cgroup"), MsFlags::empty(), Some("none,name=bypass"));
    if let Err(error) = mounted {
        println!("no cgroup hierarchy of version 1: {error}");
    }
}
