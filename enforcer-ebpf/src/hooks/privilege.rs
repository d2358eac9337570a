//! Privileged doors. Closed to a workload unless its policy names them.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::hook::{Hook, Privilege};

use super::pointer;
use crate::{
    control::{About, PASS, Point, privilege, refused},
    kernel::{self, Typed},
    own,
    subject::{self, Subject},
};
use enforcer_common::{abi::OwnKind, decide::Request, field::Field, verdict::Family};

const CAP_NET_ADMIN: i32 = 12;
const CAP_SYS_MODULE: i32 = 16;
/// `mount(2)` moves a mount, of which the hook gets a name only.
const MS_MOVE: u64 = 0x2000;
/// `MS_REMOUNT` and what makes mounts shared, private, slaves and unbindable: nothing is hidden by that, nor gone.
const MS_IN_PLACE: u64 = 0x20 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;
/// Its attributes start with the id.
const BPF_LINK_GET_FD_BY_ID: u32 = 30;
const CAP_SYS_RAWIO: i32 = 17;
const CAP_SYS_ADMIN: i32 = 21;
const CAP_SYS_BOOT: i32 = 22;
const CAP_SYS_TIME: i32 = 25;
const CAP_PERFMON: i32 = 38;
/// `CAP_OPT_NOAUDIT`, in the kernel since 5.1: it only wants to know, and goes on without.
const CAP_OPT_NOAUDIT: u32 = 2;
/// In the kernel since 2.6; a macro, so not in BTF.
const PTRACE_MODE_ATTACH: u32 = 2;
/// `LSM_PRLIMIT_WRITE`, in the kernel since 4.12.
const LSM_PRLIMIT_WRITE: u32 = 2;
const SIGHUP: u32 = 1;

/// (Oldest kernel: 5.7.)
#[lsm(hook = "sb_mount")]
pub fn sb_mount(ctx: LsmContext) -> i32 {
    let flags = ctx.arg::<u64>(3);
    let is_ours =
        || is_ours(pointer(&ctx, 1)) || (ctx.arg::<u64>(3) & MS_MOVE != 0 && is_among_hosts_mounts());
    let is_sealed_in = || {
        flags & MS_IN_PLACE == 0
            && (own::is_place_sealed(pointer(&ctx, 1)) || (flags & MS_MOVE != 0 && is_among_hosts_mounts()))
    };
    own::privilege(Hook::SbMount, Privilege::Mount, is_ours, is_sealed_in)
}

/// Whether what the task does to mounts it does to the host's. What it moves there, or the root that it gives to everybody
/// there, cannot be told, so it may move nothing.
#[inline(always)]
fn is_among_hosts_mounts() -> bool {
    subject::in_host_mount_namespace().unwrap_or(true)
}

/// Whether something that is mounted at this path, or from it, would hide or move what is the enforcer's own.
#[inline(always)]
fn is_ours(path: Typed) -> bool {
    own::holds_or_leads_to(path.follow(Field::PathDentry))
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "sb_umount")]
pub fn sb_umount(ctx: LsmContext) -> i32 {
    let mount = || pointer(&ctx, 0);
    let is_ours = || own::holds_or_leads_to(mount().follow(Field::VfsmountRoot));
    own::privilege(Hook::SbUmount, Privilege::Mount, is_ours, || own::is_mount_held(mount()))
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "sb_remount")]
pub fn sb_remount(_: LsmContext) -> i32 {
    privilege(Hook::SbRemount, Privilege::Mount)
}

/// `move_mount(2)`, which does not pass `sb_mount`. (Oldest kernel: 5.7.)
#[lsm(hook = "move_mount")]
pub fn move_mount(ctx: LsmContext) -> i32 {
    let is_ours = || is_ours(pointer(&ctx, 0)) || is_ours(pointer(&ctx, 1));
    let is_sealed_in = || {
        own::is_mount_held(pointer(&ctx, 0).follow(Field::PathMnt)) || own::is_place_sealed(pointer(&ctx, 1))
    };
    own::privilege(Hook::MoveMount, Privilege::Mount, is_ours, is_sealed_in)
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "sb_pivotroot")]
pub fn sb_pivotroot(_: LsmContext) -> i32 {
    let is_hosts = || is_among_hosts_mounts();
    own::privilege(Hook::SbPivotroot, Privilege::PivotRoot, is_hosts, is_hosts)
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
pub fn bpf(ctx: LsmContext) -> i32 {
    own::note_credentials();
    // Descriptors of maps and programs pass hooks of their own when they are made.
    let is_ours = || {
        ctx.arg::<u32>(0) == BPF_LINK_GET_FD_BY_ID
            && pointer(&ctx, 1).raw().load::<u32>().is_ok_and(|id| own::is_object(OwnKind::Link, id))
    };
    own::privilege(Hook::Bpf, Privilege::Bpf, is_ours, is_ours)
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
/// its jumps (`adjtimex(2)`); swap areas; unloading modules; addresses, routes, filters and devices of the network; the
/// system calls that change mounts but ask for the capability only; and another look at a process that
/// [`ptrace_access_check`] refused to show. (Oldest kernel: 5.7; `bpf_task_pt_regs` 5.15.)
#[lsm(hook = "capable")]
pub fn capable(ctx: LsmContext) -> i32 {
    let (mut looks, mut asks_last) = (false, false);
    let door = match ctx.arg::<i32>(2) {
        CAP_SYS_BOOT => Some(Privilege::Reboot),
        CAP_SYS_RAWIO => Some(Privilege::RawIo),
        CAP_PERFMON => {
            looks = true;
            None
        }
        CAP_SYS_ADMIN => {
            (looks, asks_last) = (true, true);
            administration()
        }
        CAP_SYS_MODULE if unloads_module() => Some(Privilege::KernelModule),
        CAP_SYS_TIME if !passes_settime() => Some(Privilege::SetTime),
        // What is asked without an audit record decides about the mode of network settings, which are files.
        CAP_NET_ADMIN if ctx.arg::<u32>(3) & CAP_OPT_NOAUDIT == 0 && !sets_socket_option() => {
            Some(Privilege::NetworkAdmin)
        }
        _ => return PASS,
    };
    let point = Point::new(Hook::Capable, Family::Privilege);
    point.judge(|subject| {
        if looks && subject.was_refused_look(kernel::system_call().0) {
            if asks_last {
                subject.forget_look();
            }
            // The event is that of the refusal.
            return refused();
        }
        match door {
            Some(door) => point.decide(subject, &Request::Privilege(door)),
            None => PASS,
        }
    })
}

/// What the task would do with `CAP_SYS_ADMIN`, by the system call that it is in; nothing, where another hook is asked.
#[inline(always)]
fn administration() -> Option<Privilege> {
    let (number, third) = kernel::system_call();
    if changes_mounts(number, third) {
        Some(Privilege::Mount)
    } else if changes_swap(number) {
        Some(Privilege::FileSystem)
    } else if takes_memory_away(number) {
        Some(Privilege::RawIo)
    } else {
        None
    }
}

/// Whether a system call changes mounts and passes no hook, or passes one too late: file systems of the network connect, and
/// all read what they are given, before anything is mounted. The numbers are those of every ABI of x86: calls since 5.1 share
/// theirs.
#[inline(always)]
const fn changes_mounts(number: u32, third: u32) -> bool {
    const OPEN_TREE: u32 = 428;
    const FSOPEN: u32 = 430;
    const MOUNT_SETATTR: u32 = 442;
    /// Since 6.15.
    const OPEN_TREE_ATTR: u32 = 467;
    /// A mount namespace of a part of the tree, where every name is another; since 7.0.
    const OPEN_TREE_NAMESPACE: u32 = 2;
    match number {
        FSOPEN | MOUNT_SETATTR | OPEN_TREE_ATTR => true,
        OPEN_TREE => third & OPEN_TREE_NAMESPACE != 0,
        _ => false,
    }
}

/// Whether a system call is `swapon(2)` or `swapoff(2)`. A swap area receives the memory of every process.
#[inline(always)]
fn changes_swap(number: u32) -> bool {
    if kernel::is_compat() { number == 87 || number == 115 } else { number == 167 || number == 168 }
}

/// Whether a system call is `madvise(2)`, where the capability takes pages of the machine out of use: `MADV_HWPOISON` kills
/// everybody who has mapped the same library. An `io_uring` worker, which is in no system call, may do the same.
#[inline(always)]
fn takes_memory_away(number: u32) -> bool {
    const PROCESS_MADVISE: u32 = 440;
    const IORING_OP_MADVISE: u8 = 25;
    match kernel::io_operation() {
        Ok(None) => number == PROCESS_MADVISE || number == if kernel::is_compat() { 219 } else { 28 },
        Ok(Some(operation)) => operation == IORING_OP_MADVISE,
        Err(_) => true,
    }
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
    let is_ours = || own::are_keepers(pointer(&ctx, 1));
    own::privilege(Hook::TaskPrlimit, Privilege::Schedule, is_ours, is_ours)
}

/// Access to another task. Tasks of the same workload may look at each other; but whoever attaches writes into
/// executable pages, which no hook on mappings sees. (Oldest kernel: 5.7.)
///
/// Newer kernels (seen on 6.18 and 7.3, not on 6.12: `may_access_mm`) show another's memory to who was refused here after
/// all, if it has `CAP_PERFMON` or `CAP_SYS_ADMIN`, for which they ask next, in this order. So [`capable`] refuses both.
#[lsm(hook = "ptrace_access_check")]
pub fn ptrace_access_check(ctx: LsmContext) -> i32 {
    let other = pointer(&ctx, 0);
    if ctx.arg::<u32>(1) & PTRACE_MODE_ATTACH != 0 {
        let is_sealed_in = || own::is_task_sealed(other);
        return own::privilege(
            Hook::PtraceAccessCheck,
            Privilege::Ptrace,
            || own::is_keeper(other),
            is_sealed_in,
        );
    }
    let point = Point::new(Hook::PtraceAccessCheck, Family::Privilege);
    point.judge(|subject| {
        if judge_towards(point, subject, Privilege::Ptrace, other) == PASS {
            return PASS;
        }
        subject.note_look(kernel::system_call().0);
        refused()
    })
}

/// Handing oneself to a tracer. (Oldest kernel: 5.7.)
#[lsm(hook = "ptrace_traceme")]
pub fn ptrace_traceme(_: LsmContext) -> i32 {
    privilege(Hook::PtraceTraceme, Privilege::Ptrace)
}

/// Signals. (Oldest kernel: 5.7.)
#[lsm(hook = "task_kill")]
pub fn task_kill(ctx: LsmContext) -> i32 {
    let signal = ctx.arg::<u32>(2);
    let other = pointer(&ctx, 0);
    // To ask whether it is there is no harm, and to have it read its policies again is how a bundle gets in that unseals.
    let is_sealed_in = || signal != 0 && signal != SIGHUP && own::is_keeper(other);
    towards_unless(Hook::TaskKill, Privilege::Signal, other, is_sealed_in)
}

#[inline(always)]
fn towards(hook: Hook, privilege: Privilege, other: Typed) -> i32 {
    towards_unless(hook, privilege, other, || own::is_keeper(other))
}

#[inline(always)]
fn towards_unless(
    hook: Hook,
    privilege: Privilege,
    other: Typed,
    is_sealed_in: impl FnOnce() -> bool,
) -> i32 {
    let point = Point::new(hook, Family::Privilege);
    let body = |subject: &Subject| judge_towards(point, subject, privilege, other);
    point.judge_own(is_sealed_in, About::door(privilege), body)
}

#[inline(always)]
fn judge_towards(point: Point, subject: &Subject, privilege: Privilege, other: Typed) -> i32 {
    let is_ours = own::is_keeper(other);
    if !is_ours && subject::is_same_workload(subject, other) {
        return PASS;
    }
    point.owned(is_ours).decide(subject, &Request::Privilege(privilege))
}
