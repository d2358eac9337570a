//! The operations: what is done, and which of our hooks it reaches.

mod files;
mod memory;
mod network;
pub mod privileges;
mod processes;
mod ring;
mod syscall;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use enforcer_common::hook::Hook;
use serde::{Deserialize, Serialize};

/// One round of an operation, undone again. Fails if anything else came out than should.
pub type Run = Box<dyn FnMut() -> Result<()>>;

/// The operation as it is to those who do it often: an enforcer, or the kernel, may have learnt that it is allowed. Ours
/// waits until a file has not changed for two ticks of the clock.
fn accustomed(mut run: Run) -> Result<Run> {
    for _ in 0..4 {
        run()?;
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(run)
}

/// What an operation is measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What programs do all day: measured under every protection.
    Common,
    /// What a policy refuses: measured under those that refuse it.
    Refused,
    /// The cost of a hook: measured with and without our programs.
    Hook,
}

/// Something to measure.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name in results.
    pub name: &'static str,
    /// What for.
    pub kind: Kind,
    /// The hooks whose cost it shows. It may reach others.
    pub hooks: &'static [Hook],
    /// Rounds of a batch. Few for what takes long.
    pub rounds: u32,
    /// Makes it ready for so many rounds.
    pub prepare: fn(u32) -> Result<Run>,
}

/// What came out of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Instructions by operation.
    pub costs: BTreeMap<String, u64>,
    /// Operations that the kernel does not do, with its reason.
    pub skipped: BTreeMap<String, String>,
}

/// All operations, in the order of the tables.
pub static OPERATIONS: &[Operation] = &[
    common("open-2", &[Hook::FileOpen], files::open_shallow),
    common("open-8", &[], files::open_deep),
    common("open-write-2", &[], files::open_for_writing),
    common("first-open-2", &[], files::first_open_shallow),
    common("first-open-8", &[], files::first_open_deep),
    common("stat-2", &[], files::stat),
    common("read", &[Hook::FilePermission], files::read),
    common("map-code", &[Hook::MmapFile], memory::map_code),
    common("map-anonymous", &[Hook::MmapAddr], memory::map_anonymous),
    common("tcp4-connect", &[], network::tcp4_connect),
    common("tcp6-connect", &[], network::tcp6_connect),
    common("udp4-connect", &[Hook::SocketConnect], network::udp4_connect),
    common("udp6-connect", &[], network::udp6_connect),
    common("udp4-sendto", &[Hook::SocketSendmsg], network::udp4_sendto),
    common("udp4-send", &[], network::udp4_send),
    common("socketpair-send", &[], network::socketpair_send),
    common("unix-connect", &[Hook::UnixStreamConnect], network::unix_connect),
    Operation { rounds: 4, ..common("fork", &[Hook::TaskAlloc, Hook::TaskFree], processes::fork) },
    Operation {
        rounds: 2,
        ..common(
            "exec-static",
            &[
                Hook::BprmCheckSecurity,
                Hook::BprmCommittedCreds,
                Hook::BprmCredsForExec,
                Hook::BprmCheckDigest,
                Hook::BprmCredsFromFile,
            ],
            processes::exec_static,
        )
    },
    Operation { rounds: 2, ..common("exec-dynamic", &[], processes::exec_dynamic) },
    refused("refused-open", files::refused_open),
    Operation { rounds: 2, ..refused("refused-exec", processes::refused_exec) },
    refused("refused-connect", network::refused_connect),
    hook("mprotect-code", &[Hook::FileMprotect], memory::protect_code),
    hook("shmat", &[Hook::ShmShmat], memory::attach_shared),
    hook("receive-file", &[Hook::FileReceive], network::receive_file),
    hook(
        "mknod-unlink",
        &[Hook::PathMknod, Hook::PathUnlink, Hook::InodeCreate, Hook::InodeUnlink],
        files::make_and_unlink,
    ),
    hook(
        "mkdir-rmdir",
        &[Hook::PathMkdir, Hook::PathRmdir, Hook::InodeMkdir, Hook::InodeRmdir],
        files::make_and_remove_directory,
    ),
    hook("symlink-unlink", &[Hook::PathSymlink, Hook::InodeSymlink], files::symlink_and_unlink),
    hook("rename", &[Hook::PathRename, Hook::InodeRename], files::rename),
    hook("link-unlink", &[Hook::PathLink, Hook::InodeLink], files::link_and_unlink),
    hook("truncate", &[Hook::PathTruncate], files::truncate),
    hook("chmod", &[Hook::PathChmod], files::chmod),
    hook("chown", &[Hook::PathChown], files::chown),
    hook("utimensat", &[Hook::InodeSetattr], files::set_times),
    hook("setxattr", &[Hook::InodeSetxattr], files::set_attribute),
    hook("setxattr-removexattr", &[Hook::InodeRemovexattr], files::set_and_remove_attribute),
    hook("setacl-removeacl", &[Hook::InodeSetAcl, Hook::InodeRemoveAcl], files::set_and_remove_acl),
    hook("ioctl-setflags", &[Hook::InodeFileSetattr], files::set_flags),
    hook("ioctl", &[Hook::FileIoctl], files::ioctl),
    hook("ioctl-32", &[Hook::FileIoctlCompat], files::ioctl_of_old),
    hook("fcntl-setown", &[Hook::FileFcntl], files::set_owner),
    hook("inotify", &[Hook::PathNotify], files::watch),
    hook("socket", &[Hook::SocketCreate], network::socket),
    hook("bind", &[Hook::SocketBind], network::bind),
    hook("listen", &[Hook::SocketListen], network::listen),
    hook("setsockopt", &[Hook::SocketSetsockopt], network::set_option),
    hook("sctp-bindx", &[Hook::SctpBindConnect], network::sctp_bind_another),
    hook("unix-sendto", &[Hook::UnixMaySend], network::unix_sendto),
    Operation {
        rounds: 2,
        ..hook(
            "cgroup-mkdir-rmdir",
            &[Hook::CgroupMkdir, Hook::CgroupRmdir],
            privileges::make_and_remove_cgroup,
        )
    },
    hook("cgroup-attach", &[Hook::CgroupAttachTask], privileges::move_between_cgroups),
    hook("mount-propagation", &[Hook::SbMount], privileges::change_propagation),
    hook("remount", &[Hook::SbRemount], privileges::remount),
    Operation { rounds: 2, ..hook("bind-mount-umount", &[Hook::SbUmount], privileges::mount_and_unmount) },
    Operation { rounds: 2, ..hook("open-tree-move-mount", &[Hook::MoveMount], privileges::move_mount) },
    hook("pivot-root", &[Hook::SbPivotroot], privileges::pivot_root),
    hook("chroot", &[Hook::PathChroot], privileges::change_root),
    Operation {
        rounds: 2,
        ..hook("fork-unshare-user", &[Hook::UsernsCreate], processes::new_user_namespace)
    },
    hook("process-vm-readv", &[Hook::PtraceAccessCheck], privileges::read_other_memory),
    Operation { rounds: 4, ..hook("fork-traceme", &[Hook::PtraceTraceme], processes::be_traced) },
    hook("bpf-next-id", &[Hook::Bpf], privileges::bpf),
    hook("perf-event-open", &[Hook::PerfEventOpen], privileges::perf_event),
    hook("finit-module", &[Hook::KernelReadFile], privileges::load_module_from_file),
    hook("init-module", &[Hook::KernelLoadData], privileges::load_module_from_memory),
    Operation {
        rounds: 2,
        ..hook("request-module", &[Hook::KernelModuleRequest], privileges::request_module)
    },
    hook("kill", &[Hook::TaskKill], privileges::signal),
    hook("add-key", &[Hook::KeyPermission], privileges::add_key),
    hook("new-session-keyring", &[Hook::KeyAlloc], privileges::new_keyring),
    hook("settimeofday", &[Hook::Settime], privileges::set_time),
    hook("quotactl-sync", &[Hook::Quotactl], privileges::sync_quotas),
    hook("syslog", &[Hook::Syslog], privileges::kernel_log),
    hook("sched-setscheduler", &[Hook::TaskSetscheduler], privileges::set_scheduler),
    hook("setpriority", &[Hook::TaskSetnice], privileges::set_priority),
    hook("ioprio-set", &[Hook::TaskSetioprio], privileges::set_io_priority),
    hook("prlimit", &[Hook::TaskPrlimit], privileges::set_limit),
    hook("move-pages", &[Hook::TaskMovememory], privileges::move_pages),
    hook("io-uring-command", &[Hook::UringCmd], ring::command),
    hook("io-uring-personality", &[Hook::UringOverrideCreds], ring::override_credentials),
    hook("io-uring-thread", &[Hook::UringSqpoll], ring::submission_thread),
    hook("tun-create", &[Hook::TunDevCreate], privileges::make_tun),
    hook("tun-open", &[Hook::TunDevOpen], privileges::open_tun),
    hook("setdomainname", &[Hook::Capable], privileges::use_capability),
];

const fn common(name: &'static str, hooks: &'static [Hook], prepare: fn(u32) -> Result<Run>) -> Operation {
    Operation { name, kind: Kind::Common, hooks, rounds: 16, prepare }
}

const fn refused(name: &'static str, prepare: fn(u32) -> Result<Run>) -> Operation {
    Operation { name, kind: Kind::Refused, hooks: &[], rounds: 8, prepare }
}

const fn hook(name: &'static str, hooks: &'static [Hook], prepare: fn(u32) -> Result<Run>) -> Operation {
    Operation { name, kind: Kind::Hook, hooks, rounds: 8, prepare }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What no operation here reaches, and why.
    const NOT_MEASURED: &[(Hook, &str)] = &[
        (
            Hook::QuotaOn,
            "takes a disk with quota files, and modules for their format, which the guests do not have; what a task asks \
             for passes `quotactl` first",
        ),
        (Hook::InodeMknod, "the program is that of `inode_create`"),
        (Hook::BpfMap, "a look at a label, and for a workload one look-up, beside a new descriptor"),
        (Hook::BpfProg, "as `bpf_map`"),
        (Hook::FileSendSigiotask, "compares a number, where a signal is sent"),
    ];

    #[test]
    fn a_name_stands_for_one_operation() {
        let names: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
        assert_eq!(names.len(), OPERATIONS.len());
    }

    #[test]
    fn a_hook_has_one_operation_or_is_known_to_have_none() {
        for hook in Hook::ALL {
            let operations = OPERATIONS.iter().filter(|operation| operation.hooks.contains(hook)).count();
            let left_out = NOT_MEASURED.iter().any(|(known, why)| known == hook && !why.is_empty());
            assert_eq!(operations, usize::from(!left_out), "{hook}");
        }
    }
}
