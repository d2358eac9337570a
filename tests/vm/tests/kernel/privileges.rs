//! Privileged doors.

use enforcer_common::hook::Hook::{
    self, Bpf, KernelLoadData, MoveMount, PathChroot, PerfEventOpen, PtraceAccessCheck, SbMount, TaskKill,
    UsernsCreate,
};
use enforcer_common::verdict::Family::Privilege;
use enforcer_common::verdict::Reason;
use enforcer_vm_tests::scenario::{Case, Table, case};

fn door(attack: &'static str, op: &[&str], name: &str, hook: Hook) -> Case {
    case(attack, op)
        .allowed_by("privileges.allow", name)
        .refused(hook, Privilege, Reason::Privilege)
        .about(name)
}

#[test]
fn rearranging_the_file_system() {
    Table::new(
        "mounts",
        vec![
            door("mount over a directory", &["mount-tmpfs", "{dir}/victim"], "mount", SbMount)
                .directory("{dir}/victim"),
            door(
                "bind mount over a listed path",
                &["bind-mount", "{dir}/evil", "{dir}/app"],
                "mount",
                SbMount,
            )
            .file("{dir}/evil")
            .file("{dir}/app"),
            door("open_tree and move_mount", &["move-mount", "{dir}/evil", "{dir}/app"], "mount", MoveMount)
                .file("{dir}/evil")
                .file("{dir}/app"),
            // Inside a child, which takes the new root with it.
            door(
                "chroot, so that paths look allowed",
                &["fork", "chroot", "{dir}/jail"],
                "chroot",
                PathChroot,
            )
            .directory("{dir}/jail"),
        ],
    )
    .check();
}

#[test]
fn new_namespaces_and_kernel_doors() {
    Table::new(
        "doors",
        vec![
            door("a user namespace of one's own", &["fork", "unshare-user"], "user-namespace", UsernsCreate),
            door("bpf", &["bpf"], "bpf", Bpf),
            door("performance counters", &["perf"], "perf", PerfEventOpen).optional(),
            door("load a kernel module", &["init-module"], "kernel-module", KernelLoadData).optional(),
        ],
    )
    .check();
}

/// A process of the host that a workload tries to get at.
struct Victim(std::process::Child);

impl Victim {
    fn start() -> Self {
        let mut command = std::process::Command::new(enforcer_vm_tests::actor::program());
        command.arg("script").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn reaching_for_processes_outside() {
    let victim = Victim::start();
    let pid = victim.0.id().to_string();
    Table::new(
        "outsiders",
        vec![
            door("ptrace a host process", &["ptrace", &pid], "ptrace", PtraceAccessCheck),
            door("signal a host process", &["signal", &pid], "signal", TaskKill),
        ],
    )
    .check();
}
