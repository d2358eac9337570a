//! A task that leaves its cgroup takes its policy along.

use std::os::fd::AsRawFd;

use crate::calls::process::{CLONE_INTO_CGROUP, Channel, clone3, finished, in_child, in_orphan};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "leave-the-cgroup",
    told: "move to another cgroup before I read",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let escape = |how: &str, cgroup: &str| {
        ATTACK
            .row(&[how, cgroup, "{dir}/secret"])
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret")
    };
    vec![
        escape("procs", "{refuge}").given("file.write", "{refuge}/cgroup.procs"),
        escape("procs", "/sys/fs/cgroup").given("file.write", "/sys/fs/cgroup/cgroup.procs"),
        escape("clone", "{refuge}"),
        escape("clone-and-daemonise", "{refuge}"),
        // Writing to the file is what takes a rule.
        ATTACK
            .row(&["procs", "{other-refuge}", "{dir}/secret"])
            .file("{dir}/secret")
            .allowed_by("file.write", "{other-refuge}/cgroup.procs")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("write")
            .about("cgroup.procs"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, cgroup, secret] = arguments(words)?;
    let steal = || calls::files::steal(secret);
    if how == "procs" {
        return in_child(|| {
            let procs = calls::files::open(&format!("{cgroup}/cgroup.procs"), OFlag::O_WRONLY)?;
            nix::unistd::write(&procs, b"0").at("write cgroup.procs")?;
            steal()
        });
    }
    // A directory that is only a path: no hook sees it opened.
    let cgroup = calls::files::open(cgroup, OFlag::O_PATH)?;
    let number = u64::from(cgroup.as_raw_fd().unsigned_abs());
    let channel = Channel::new()?;
    match clone3(CLONE_INTO_CGROUP, libc::SIGCHLD, number).at("clone3")? {
        None => {
            let outcome = if how == "clone" { steal() } else { in_orphan(steal) };
            channel.finish(outcome)
        }
        Some(child) => finished(channel, child),
    }
}
