//! BPF-LSM programs: kernel in, decision out.
//!
//! Every program is a thin shell. It finds out who asks ([`subject`]), names what is asked for ([`name`]), lets
//! [`enforcer_common::decide`] decide over the maps ([`tables`]), and hands the answer to [`control::conclude`], the
//! only place that turns it into an errno and an event. Programs are named after the hook they sit on; the table of
//! them is [`enforcer_common::hook::Hook`].
//!
//! All programs but [`hooks`]' `bprm_check_digest` are non-sleepable: they run under RCU, so what a hook's arguments
//! point to cannot go away while a name is read, and one RCU grace period tells the loader that nobody reads the old
//! generation any more. The sleepable one walks no names, and decides again if the generation changed meanwhile.
//!
//! Loops go through `bpf_loop` (5.17), and what a loop carries from round to round and uses as an offset lives in map
//! values: kernels before 6.7 verify a loop body once, and would believe the bounds of that one round.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "BPF registers have 64 bits and checked conversions would panic: what is narrowed here is a constant, or a value whose bound stands beside the cast"
)]
#![allow(unreachable_pub, reason = "a BPF object has no API: `pub` marks what a module offers its siblings")]

mod cache;
mod control;
mod hooks;
mod kernel;
mod maps;
mod name;
mod opaque;
mod own;
mod policy_maps;
mod subject;
mod tables;

/// The kernel lends helpers such as `bpf_probe_read_kernel` and `bpf_task_storage_get` to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked in: the programs have no panicking path left after optimisation, and the loader would refuse an
    // endless loop.
    loop {}
}
