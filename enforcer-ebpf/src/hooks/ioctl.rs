//! `ioctl(2)`, as far as it changes something that the descriptor alone does not allow.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    field::Field,
    hook::{Hook, Privilege},
    ioctl::Kind,
    rights::Rights,
    verdict::Family,
};

use super::{
    file::{S_IFDIR, S_IFMT, S_IFREG, judge_owner},
    memory::{anonymous, memory_point},
    pointer,
};
use crate::{
    control::{About, PASS, Point, privilege},
    kernel::Typed,
    name::Place,
    own,
};

/// Judges the commands that change a file that may be open for reading only, those that administer a file system, those that
/// type into a terminal, and those that fill memory. (Oldest kernel: 5.7.)
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
    match Kind::of(command) {
        Kind::Typing => privilege(hook, Privilege::TerminalInput),
        Kind::SignalOwner => privilege(hook, Privilege::Signal),
        Kind::Signal => judge_owner(hook, file),
        Kind::Memory => {
            let point = memory_point(hook);
            point.judge(|subject| anonymous(point, subject))
        }
        Kind::Change => {
            let point = Point::new(hook, Family::File);
            let dentry = file.follow(Field::FileDentry);
            point.judge_own(
                || own::is_sealed_in(dentry),
                About::file(Rights::WRITE),
                |subject| {
                    let point = point.owned(own::holds(dentry));
                    point.decide_place(subject, Place::of_file(file), false, Rights::WRITE)
                },
            )
        }
        Kind::Administration if is_kept(file) => privilege(hook, Privilege::FileSystem),
        Kind::Administration | Kind::Harmless => PASS,
    }
}

/// Whether a file is one that a file system keeps.
#[inline(always)]
fn is_kept(file: Typed) -> bool {
    let mode = file.follow(Field::FileInode).get::<u16>(Field::InodeMode) & S_IFMT;
    mode == S_IFREG || mode == S_IFDIR
}
