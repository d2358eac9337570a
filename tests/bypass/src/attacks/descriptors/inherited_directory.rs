//! A directory that was open before the workload began leads to everything below it.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "inherited-directory",
    told: "go on from a directory that I was started with",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let inherited = |how: &str| {
        ATTACK
            .row(&[how, "{fd}"])
            .file("{dir}/secret")
            .inherits(Inherited::File("{dir}".into()))
            .given("file.read", "{dir}")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret")
    };
    vec![inherited("openat"), inherited("fchdir")]
}

fn run(words: &[&str]) -> Outcome {
    let [how, number] = arguments(words)?;
    let directory = format!("/proc/self/fd/{number}");
    if how == "openat" {
        return calls::files::steal(&format!("{directory}/secret"));
    }
    calls::process::in_child(|| {
        nix::unistd::chdir(directory.as_str()).at("chdir")?;
        calls::files::steal("secret")
    })
}
