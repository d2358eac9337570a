//! A program can be started without naming it.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "exec-descriptor",
    told: "start a program through a descriptor of it",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let evil = |how: &str| {
        ATTACK
            .row(&[how, "{dir}/evil"])
            .stub("{dir}/evil", 0)
            .allowed_by("exec.allow", "{dir}/evil")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/evil")
    };
    vec![evil("execveat"), evil("proc-self-fd"), evil("thread-self-fd")]
}

fn run(words: &[&str]) -> Outcome {
    let [how, evil] = arguments(words)?;
    // Never opened for reading.
    let held = calls::files::open(evil, OFlag::O_PATH)?;
    match how {
        "proc-self-fd" => calls::process::run(&calls::files::magic_link(&held)),
        "thread-self-fd" => {
            calls::process::run(&format!("/proc/thread-self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held)))
        }
        _ => calls::process::spawn(|| calls::process::exec_descriptor(&held)),
    }
}
