//! One object, many ways to it: the verdict is about the object itself.

use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "roundabout-name",
    told: "reach a secret by a roundabout name",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let way = |how: &str, name: &str| {
        ATTACK
            .row(&[how, "{dir}/public", name])
            .file("{dir}/secret")
            .directory("{dir}/public")
            .given("file.read", "{dir}/public/**")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret")
    };
    vec![
        way("open", "{dir}/public/link").symlink("{dir}/public/link", "{dir}/secret"),
        way("open", "{dir}/public/up/secret").symlink("{dir}/public/up", ".."),
        way("open", "{dir}/public/../secret"),
        way("open", "{dir}//.//public/.././/secret"),
        way("open", "/proc/self/root{dir}/secret"),
        way("openat", "../secret"),
        way("chdir", "../secret"),
        way("fchdir", "../secret"),
        way("cwd", "../secret"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, directory, name] = arguments(words)?;
    let at = || calls::files::open(directory, OFlag::O_PATH);
    match how {
        "openat" => {
            let secret = nix::fcntl::openat(at()?, name, OFlag::O_RDONLY, Mode::empty()).at("openat")?;
            calls::files::steal_from(secret)
        }
        // In children, because the working directory outlives the row.
        "chdir" => calls::process::in_child(|| {
            chdir(directory).at("chdir")?;
            calls::files::steal(name)
        }),
        "fchdir" => calls::process::in_child(|| {
            fchdir(at()?).at("fchdir")?;
            calls::files::steal(name)
        }),
        "cwd" => calls::process::in_child(|| {
            chdir(directory).at("chdir")?;
            calls::files::steal(&format!("/proc/self/cwd/{name}"))
        }),
        _ => calls::files::steal(name),
    }
}
