//! Privileged doors. Closed to a workload unless its policy names them.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::hook::{Hook, Privilege};

use super::pointer;
use crate::{
    control::{PASS, Point, privilege},
    kernel::Typed,
    subject,
};
use enforcer_common::{decide::Request, verdict::Family};

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

/// Access to another task. Tasks of the same workload are each other's business. (Oldest kernel: 5.7.)
#[lsm(hook = "ptrace_access_check")]
pub fn ptrace_access_check(ctx: LsmContext) -> i32 {
    towards(Hook::PtraceAccessCheck, Privilege::Ptrace, pointer(&ctx, 0))
}

/// Handing oneself to a tracer. (Oldest kernel: 5.7.)
#[lsm(hook = "ptrace_traceme")]
pub fn ptrace_traceme(ctx: LsmContext) -> i32 {
    towards(Hook::PtraceTraceme, Privilege::Ptrace, pointer(&ctx, 0))
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
