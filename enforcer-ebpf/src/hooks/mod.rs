//! The programs, one file per family. What each hook means is documented on [`enforcer_common::hook::Hook`].
//!
//! The kernel's trampoline calls the next program on a hook only if the one before returned 0 (`invoke_bpf_mod_ret` in
//! `arch/x86/net/bpf_jit_comp.c`), so an earlier refusal stands without our passing it on.

use aya_ebpf::programs::{BtfTracePointContext, LsmContext};

use crate::kernel::Typed;

mod cgroup;
mod descriptors;
mod exec;
mod file;
mod interpreter;
mod ioctl;
mod memory;
mod network;
mod own;
mod privilege;

/// A pointer argument of an LSM hook.
#[inline(always)]
fn pointer(ctx: &LsmContext, index: usize) -> Typed {
    Typed::new(ctx.arg(index))
}

/// A pointer argument of a tracepoint.
#[inline(always)]
fn traced(ctx: &BtfTracePointContext, index: usize) -> Typed {
    Typed::new(ctx.arg(index))
}
