//! `ioctl(2)`, as far as it changes something that the descriptor alone does not allow.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    hook::{Hook, Privilege},
    rights::Rights,
    verdict::Family,
};

use super::{file::judge_owner, pointer};
use crate::{
    control::{PASS, Point, privilege},
    kernel::Typed,
    name::Place,
};

// Commands, all of them ABI.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;
const FIOASYNC: u32 = 0x5452;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC32_SETFLAGS: u32 = 0x4004_6602;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
const FS_IOC_ENABLE_VERITY: u32 = 0x4080_6685;

/// Judges the commands that change a file that may be open for reading only, and those that type into a terminal.
/// (Oldest kernel: 5.7.)
#[lsm(hook = "file_ioctl")]
pub fn file_ioctl(ctx: LsmContext) -> i32 {
    judge_ioctl(Hook::FileIoctl, pointer(&ctx, 0), ctx.arg::<u32>(1))
}

/// The same from 32-bit programs. (Oldest kernel: 6.8, 6.1.76.)
#[lsm(hook = "file_ioctl_compat")]
pub fn file_ioctl_compat(ctx: LsmContext) -> i32 {
    judge_ioctl(Hook::FileIoctlCompat, pointer(&ctx, 0), ctx.arg::<u32>(1))
}

#[inline(always)]
fn judge_ioctl(hook: Hook, file: Typed, command: u32) -> i32 {
    match command {
        TIOCSTI | TIOCLINUX => privilege(hook, Privilege::TerminalInput),
        // Whom they name, the kernel reads after us.
        FIOSETOWN | SIOCSPGRP => privilege(hook, Privilege::Signal),
        FIOASYNC => judge_owner(hook, file),
        FS_IOC_SETFLAGS | FS_IOC32_SETFLAGS | FS_IOC_FSSETXATTR | FS_IOC_ENABLE_VERITY => {
            let point = Point::new(hook, Family::File);
            point.judge(|subject| point.decide_place(subject, Place::of_file(file), false, Rights::WRITE))
        }
        _ => PASS,
    }
}
