//! Files through which the kernel is watched or steered.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "kernel-files",
    told: "steer or watch the kernel through its own files",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let file = |path: &str, key: &'static str, right: &'static str| {
        ATTACK
            .row(&[right, path])
            .allowed_by(key, path)
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing(right)
            .about(path)
            .optional()
    };
    vec![
        file("/proc/sysrq-trigger", "file.write", "write"),
        file("/proc/sys/kernel/panic", "file.write", "write"),
        file("/proc/kcore", "file.read", "read").given("privileges.allow", "raw-io"),
        file("/proc/kallsyms", "file.read", "read"),
        file("/proc/1/environ", "file.read", "read"),
        file("/dev/kmsg", "file.read", "read").given("privileges.allow", "kernel-log"),
        file("/dev/mem", "file.read", "read").given("privileges.allow", "raw-io"),
        file("/sys/kernel/debug/sched/debug", "file.read", "read"),
        file("/sys/kernel/tracing/trace", "file.read", "read"),
        file("/sys/kernel/security/lsm", "file.read", "read"),
        file("/sys/kernel/debug/sched/verbose", "file.write", "write"),
        file("/sys/kernel/tracing/tracing_on", "file.write", "write"),
        file("/sys/kernel/tracing/uprobe_events", "file.write", "write"),
        file("/sys/kernel/security/integrity/ima/policy", "file.write", "write"),
        file("/sys/fs/cgroup/cgroup.max.depth", "file.write", "write"),
        file("/sys/fs/cgroup/cgroup.subtree_control", "file.write", "write"),
        file("/sys/module/kernel/parameters/panic", "file.write", "write"),
        file("/sys/fs/bpf", "file.read", "read"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, path] = arguments(words)?;
    calls::files::touch(path, if how == "write" { OFlag::O_WRONLY } else { OFlag::O_RDONLY })
}
