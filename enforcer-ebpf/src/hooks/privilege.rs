//! Privileged doors. Closed to a workload unless its policy names them.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::hook::{Hook, Privilege};

use super::pointer;
use crate::{
    control::{PASS, Point, privilege},
    kernel::{self, Typed},
    subject,
};
use enforcer_common::{decide::Request, verdict::Family};

const CAP_NET_ADMIN: i32 = 12;
const CAP_SYS_MODULE: i32 = 16;
const CAP_SYS_RAWIO: i32 = 17;
const CAP_SYS_ADMIN: i32 = 21;
const CAP_SYS_BOOT: i32 = 22;
const CAP_SYS_TIME: i32 = 25;
/// `CAP_OPT_NOAUDIT`, in the kernel since 5.1: it only wants to know, and goes on without.
const CAP_OPT_NOAUDIT: u32 = 2;
/// In the kernel since 2.6; a macro, so not in BTF.
const PTRACE_MODE_ATTACH: u32 = 2;
/// `LSM_PRLIMIT_WRITE`, in the kernel since 4.12.
const LSM_PRLIMIT_WRITE: u32 = 2;

/// (Oldest kernel: 5.7.)
#[lsm(hook = "sb_mount")]
pub fn sb_mount(_: LsmContext) -> i32 {
    privilege(Hook::SbMount, Privilege::Mount)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "sb_umount")]
pub fn sb_umount(_: LsmContext) -> i32 {
    privilege(Hook::SbUmount, Privilege::Mount)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "sb_remount")]
pub fn sb_remount(_: LsmContext) -> i32 {
    privilege(Hook::SbRemount, Privilege::Mount)
}

/// `move_mount(2)`, which does not pass `sb_mount`. (Oldest kernel: 5.7.)
#[lsm(hook = "move_mount")]
pub fn move_mount(_: LsmContext) -> i32 {
    privilege(Hook::MoveMount, Privilege::Mount)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "sb_pivotroot")]
pub fn sb_pivotroot(_: LsmContext) -> i32 {
    privilege(Hook::SbPivotroot, Privilege::PivotRoot)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "path_chroot")]
pub fn path_chroot(_: LsmContext) -> i32 {
    privilege(Hook::PathChroot, Privilege::Chroot)
}

/// (Oldest kernel: 6.1.)
#[lsm(hook = "userns_create")]
pub fn userns_create(_: LsmContext) -> i32 {
    privilege(Hook::UsernsCreate, Privilege::UserNamespace)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "bpf")]
pub fn bpf(_: LsmContext) -> i32 {
    privilege(Hook::Bpf, Privilege::Bpf)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "perf_event_open")]
pub fn perf_event_open(_: LsmContext) -> i32 {
    privilege(Hook::PerfEventOpen, Privilege::Perf)
}

/// A module that the kernel would have user space load, outside the workload and as root. (Oldest kernel: 5.7.)
#[lsm(hook = "kernel_module_request")]
pub fn kernel_module_request(_: LsmContext) -> i32 {
    privilege(Hook::KernelModuleRequest, Privilege::KernelModule)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "kernel_read_file")]
pub fn kernel_read_file(_: LsmContext) -> i32 {
    privilege(Hook::KernelReadFile, Privilege::KernelModule)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "kernel_load_data")]
pub fn kernel_load_data(_: LsmContext) -> i32 {
    privilege(Hook::KernelLoadData, Privilege::KernelModule)
}

/// (Oldest kernel: 6.0.)
#[lsm(hook = "uring_cmd")]
pub fn uring_cmd(_: LsmContext) -> i32 {
    privilege(Hook::UringCmd, Privilege::UringCommand)
}

/// (Oldest kernel: 5.12.)
#[lsm(hook = "uring_sqpoll")]
pub fn uring_sqpoll(_: LsmContext) -> i32 {
    privilege(Hook::UringSqpoll, Privilege::UringCommand)
}

/// (Oldest kernel: 5.16.)
#[lsm(hook = "uring_override_creds")]
pub fn uring_override_creds(_: LsmContext) -> i32 {
    privilege(Hook::UringOverrideCreds, Privilege::UringCommand)
}

/// `add_key(2)`, `request_key(2)` (which has the kernel start a helper outside the workload), new session keyrings.
/// (Oldest kernel: 5.7.)
#[lsm(hook = "key_alloc")]
pub fn key_alloc(_: LsmContext) -> i32 {
    privilege(Hook::KeyAlloc, Privilege::Keyring)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "key_permission")]
pub fn key_permission(_: LsmContext) -> i32 {
    privilege(Hook::KeyPermission, Privilege::Keyring)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "settime")]
pub fn settime(_: LsmContext) -> i32 {
    privilege(Hook::Settime, Privilege::SetTime)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "quotactl")]
pub fn quotactl(_: LsmContext) -> i32 {
    privilege(Hook::Quotactl, Privilege::Quota)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "quota_on")]
pub fn quota_on(_: LsmContext) -> i32 {
    privilege(Hook::QuotaOn, Privilege::Quota)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "syslog")]
pub fn syslog(_: LsmContext) -> i32 {
    privilege(Hook::Syslog, Privilege::KernelLog)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "tun_dev_create")]
pub fn tun_dev_create(_: LsmContext) -> i32 {
    privilege(Hook::TunDevCreate, Privilege::Tun)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "tun_dev_open")]
pub fn tun_dev_open(_: LsmContext) -> i32 {
    privilege(Hook::TunDevOpen, Privilege::Tun)
}

/// What no hook of its own guards: `reboot(2)`; I/O ports, raw memory, machine registers and PCI space; the clock's rate and
/// its jumps (`adjtimex(2)`); swap areas; unloading modules; addresses, routes, filters and devices of the network; and the
/// system calls that change mounts but ask for the capability only. (Oldest kernel: 5.7; `bpf_task_pt_regs` 5.15.)
#[lsm(hook = "capable")]
pub fn capable(ctx: LsmContext) -> i32 {
    let door = match ctx.arg::<i32>(2) {
        CAP_SYS_BOOT => Privilege::Reboot,
        CAP_SYS_RAWIO => Privilege::RawIo,
        CAP_SYS_ADMIN if changes_mounts() => Privilege::Mount,
        CAP_SYS_ADMIN if changes_swap() => Privilege::FileSystem,
        CAP_SYS_ADMIN if takes_memory_away() => Privilege::RawIo,
        CAP_SYS_MODULE if unloads_module() => Privilege::KernelModule,
        CAP_SYS_TIME if !passes_settime() => Privilege::SetTime,
        // What is asked without an audit record decides about the mode of network settings, which are files.
        CAP_NET_ADMIN if ctx.arg::<u32>(3) & CAP_OPT_NOAUDIT == 0 && !sets_socket_option() => {
            Privilege::NetworkAdmin
        }
        _ => return PASS,
    };
    privilege(Hook::Capable, door)
}

/// Whether the task is in a system call that changes mounts and passes no hook, or passes one too late: file systems of the
/// network connect, and all read what they are given, before anything is mounted. The numbers are those of every ABI of
/// x86: calls since 5.1 share theirs.
#[inline(always)]
fn changes_mounts() -> bool {
    const OPEN_TREE: u32 = 428;
    const FSOPEN: u32 = 430;
    const MOUNT_SETATTR: u32 = 442;
    /// Since 6.15.
    const OPEN_TREE_ATTR: u32 = 467;
    /// A mount namespace of a part of the tree, where every name is another; since 7.0.
    const OPEN_TREE_NAMESPACE: u32 = 2;
    match kernel::system_call() {
        (FSOPEN | MOUNT_SETATTR | OPEN_TREE_ATTR, _) => true,
        (OPEN_TREE, flags) => flags & OPEN_TREE_NAMESPACE != 0,
        _ => false,
    }
}

/// Whether the task is in `swapon(2)` or `swapoff(2)`. A swap area receives the memory of every process.
#[inline(always)]
fn changes_swap() -> bool {
    let (number, _) = kernel::system_call();
    if kernel::is_compat() { number == 87 || number == 115 } else { number == 167 || number == 168 }
}

/// Whether the task is in `madvise(2)`, where the capability takes pages of the machine out of use: `MADV_HWPOISON` kills
/// everybody who has mapped the same library.
#[inline(always)]
fn takes_memory_away() -> bool {
    const PROCESS_MADVISE: u32 = 440;
    let (number, _) = kernel::system_call();
    number == PROCESS_MADVISE || number == if kernel::is_compat() { 219 } else { 28 }
}

/// Whether the task is in `delete_module(2)`.
#[inline(always)]
fn unloads_module() -> bool {
    let (number, _) = kernel::system_call();
    number == if kernel::is_compat() { 129 } else { 176 }
}

/// Whether the task sets the clock in a way that passes [`settime`]: by `settimeofday`, `clock_settime`, or `stime`.
#[inline(always)]
fn passes_settime() -> bool {
    let (number, _) = kernel::system_call();
    if kernel::is_compat() {
        number == 79 || number == 264 || number == 404 || number == 25
    } else {
        number == 164 || number == 227
    }
}

/// Whether the task is in `setsockopt(2)`: what takes the capability there is about its own packets, or judged by
/// `socket_setsockopt`. Of a 32-bit program, whose call may be any of `socketcall(2)`, nothing is known.
#[inline(always)]
fn sets_socket_option() -> bool {
    let (number, _) = kernel::system_call();
    (number == 54 || number == 541) && !kernel::is_compat() && !kernel::is_io_worker()
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "task_setscheduler")]
pub fn task_setscheduler(ctx: LsmContext) -> i32 {
    towards(Hook::TaskSetscheduler, Privilege::Schedule, pointer(&ctx, 0))
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "task_setnice")]
pub fn task_setnice(ctx: LsmContext) -> i32 {
    towards(Hook::TaskSetnice, Privilege::Schedule, pointer(&ctx, 0))
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "task_setioprio")]
pub fn task_setioprio(ctx: LsmContext) -> i32 {
    towards(Hook::TaskSetioprio, Privilege::Schedule, pointer(&ctx, 0))
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "task_movememory")]
pub fn task_movememory(ctx: LsmContext) -> i32 {
    towards(Hook::TaskMovememory, Privilege::Schedule, pointer(&ctx, 0))
}

/// Changing the limits of another task, of which the hook tells the credentials alone: even one of the same workload
/// needs the privilege. A task's own limits do not come here. (Oldest kernel: 5.7.)
#[lsm(hook = "task_prlimit")]
pub fn task_prlimit(ctx: LsmContext) -> i32 {
    if ctx.arg::<u32>(2) & LSM_PRLIMIT_WRITE == 0 {
        return PASS;
    }
    privilege(Hook::TaskPrlimit, Privilege::Schedule)
}

/// Access to another task. Tasks of the same workload may look at each other; but whoever attaches writes into
/// executable pages, which no hook on mappings sees. (Oldest kernel: 5.7.)
#[lsm(hook = "ptrace_access_check")]
pub fn ptrace_access_check(ctx: LsmContext) -> i32 {
    if ctx.arg::<u32>(1) & PTRACE_MODE_ATTACH != 0 {
        return privilege(Hook::PtraceAccessCheck, Privilege::Ptrace);
    }
    towards(Hook::PtraceAccessCheck, Privilege::Ptrace, pointer(&ctx, 0))
}

/// Handing oneself to a tracer. (Oldest kernel: 5.7.)
#[lsm(hook = "ptrace_traceme")]
pub fn ptrace_traceme(_: LsmContext) -> i32 {
    privilege(Hook::PtraceTraceme, Privilege::Ptrace)
}

/// Signals. (Oldest kernel: 5.7.)
#[lsm(hook = "task_kill")]
pub fn task_kill(ctx: LsmContext) -> i32 {
    towards(Hook::TaskKill, Privilege::Signal, pointer(&ctx, 0))
}

#[inline(always)]
fn towards(hook: Hook, privilege: Privilege, other: Typed) -> i32 {
    let point = Point::new(hook, Family::Privilege);
    point.judge(|subject| {
        if subject::is_same_workload(subject, other) {
            return PASS;
        }
        point.decide(subject, &Request::Privilege(privilege))
    })
}
