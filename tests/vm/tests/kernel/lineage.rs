//! Shaking the policy off: whatever a task becomes and wherever it goes, its label stays.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use enforcer_common::hook::Hook::FileOpen;
use enforcer_common::verdict::Family::File;
use enforcer_common::verdict::Reason::NoRule;
use enforcer_vm_tests::actor;
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::SCRATCH;
use enforcer_vm_tests::scenario::{Case, Table, case};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Reads a secret after `wrapper`.
fn read_after(attack: &'static str, wrapper: &[&str]) -> Case {
    let mut op = wrapper.to_vec();
    op.extend(["open-read", "{dir}/secret"]);
    case(attack, &op)
        .file("{dir}/secret")
        .allowed_by("file.read", "{dir}/secret")
        .refused(FileOpen, File, NoRule)
        .needing("read")
        .about("{dir}/secret")
}

#[test]
fn becoming_another_process() {
    Table::new(
        "births",
        vec![
            read_after("fork", &["fork"]),
            read_after("double fork", &["double-fork"]),
            read_after("new session", &["setsid"]),
            read_after("daemonise: orphaned in a new session", &["daemonise"]),
            read_after("thread", &["thread"]),
            read_after("thread of a daemon", &["daemonise", "thread"]),
            case("another listed program", &["exec-self", "{dir}/app", "open-read", "{dir}/secret"])
                .program("{dir}/app")
                .file("{dir}/secret")
                .given("exec.allow", "{dir}/app")
                .allowed_by("file.read", "{dir}/secret")
                .refused(FileOpen, File, NoRule)
                .about("{dir}/secret"),
        ],
    )
    .check();
}

#[test]
fn leaving_the_cgroup() {
    let refuge = Cgroup::create("refuge");
    let directory = refuge.directory();
    let directory = directory.to_str().unwrap();
    let procs = format!("{directory}/cgroup.procs");
    Table::new(
        "cgroup-escapes",
        vec![
            read_after("move by cgroup.procs", &["move-cgroup", directory]).given("file.write", &procs),
            read_after("CLONE_INTO_CGROUP with an O_PATH descriptor", &["into-cgroup", directory]),
            read_after("CLONE_INTO_CGROUP, then daemonise", &["into-cgroup", directory, "daemonise"]),
            read_after("move to the root cgroup", &["move-cgroup", "/sys/fs/cgroup"])
                .given("file.write", "/sys/fs/cgroup/cgroup.procs"),
        ],
    )
    .check();
}

/// A mount namespace of somebody else, whose file is bound to a name.
struct Namespace {
    owner: Child,
    file: String,
}

impl Namespace {
    fn create() -> Self {
        let mut command = Command::new(actor::program());
        command.arg("script").stdin(Stdio::piped()).stdout(Stdio::null());
        let leave = || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(Into::into);
        // SAFETY: unshare(2) is async-signal-safe.
        unsafe { command.pre_exec(leave) };
        let owner = command.spawn().unwrap();
        let file = format!("{SCRATCH}/mount-namespace");
        std::fs::create_dir_all(SCRATCH).unwrap();
        std::fs::write(&file, "").unwrap();
        let source = format!("/proc/{}/ns/mnt", owner.id());
        mount(Some(source.as_str()), file.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Self { owner, file }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = umount2(self.file.as_str(), MntFlags::MNT_DETACH);
        let _ = self.owner.kill();
        let _ = self.owner.wait();
    }
}

#[test]
fn entering_another_mount_namespace() {
    let namespace = Namespace::create();
    Table::new(
        "setns",
        vec![
            read_after("setns into a mount namespace", &["setns", &namespace.file])
                .given("file.read", &namespace.file),
        ],
    )
    .check();
}
