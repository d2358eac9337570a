//! A program that does nothing on each hook that ours sit on: what any enforcement by BPF pays.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, Result};
use aya_obj::btf::{Btf, BtfKind};
use enforcer_bench::operations::Measured;
use enforcer_common::hook::{Attach, Hook};
use nix::errno::Errno;

use crate::ops::Ops;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_PROG_TYPE_LSM: u32 = 29;
const BPF_TRACE_RAW_TP: u32 = 23;
const BPF_LSM_MAC: u32 = 27;
const BPF_F_SLEEPABLE: u32 = 1 << 4;

/// `r0 = 0; exit`
const PROGRAM: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

pub(crate) fn measure(ops: &Ops, hooks: &[Hook]) -> Result<Measured> {
    let types = Btf::from_sys_fs().context("reading the kernel's types")?;
    let attached: Vec<(OwnedFd, OwnedFd)> = hooks
        .iter()
        .map(|hook| attach(*hook, &types).with_context(|| format!("an empty program on {hook}")))
        .collect::<Result<_>>()?;
    let measured = ops.measure(ops.command());
    drop(attached);
    measured
}

/// Loads and attaches one; it goes with what is returned.
fn attach(hook: Hook, types: &Btf) -> Result<(OwnedFd, OwnedFd)> {
    let target = hook.target();
    let (kind, attach_type, flags, id) = match hook.attach() {
        Attach::Tracepoint => {
            let id = types.id_by_type_name_kind(&format!("btf_trace_{target}"), BtfKind::Typedef)?;
            (BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, 0, id)
        }
        way => {
            let id = types.id_by_type_name_kind(&format!("bpf_lsm_{target}"), BtfKind::Func)?;
            let flags = if way == Attach::LsmSleepable { BPF_F_SLEEPABLE } else { 0 };
            (BPF_PROG_TYPE_LSM, BPF_LSM_MAC, flags, id)
        }
    };
    let license = c"GPL";
    let mut load = Load {
        kind,
        length: 2,
        program: PROGRAM.as_ptr() as u64,
        license: license.as_ptr() as u64,
        flags,
        attach_type,
        target: id,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &mut load).context("loading")?;
    let mut open = Open { name: 0, program: program.as_raw_fd().cast_unsigned(), padding: 0 };
    let link = bpf(BPF_RAW_TRACEPOINT_OPEN, &mut open).context("attaching")?;
    Ok((program, link))
}

/// The part of `union bpf_attr` by which programs are loaded.
#[derive(Default)]
#[repr(C)]
struct Load {
    kind: u32,
    length: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    btf: u32,
    function_info_size: u32,
    function_info: u64,
    function_info_count: u32,
    line_info_size: u32,
    line_info: u64,
    line_info_count: u32,
    target: u32,
}

/// The part by which they are attached.
#[repr(C)]
struct Open {
    name: u64,
    program: u32,
    padding: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> Result<OwnedFd> {
    // SAFETY: `attributes` is as long as said and starts like the kernel's union for this command; what it points to
    // is alive.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    let descriptor = Errno::result(result)?;
    // SAFETY: the kernel has just made it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor)?) })
}
