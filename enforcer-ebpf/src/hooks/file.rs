//! Files, directories, and everything that changes them.
//!
//! Whatever changes an object needs `write` on its path, and whatever gives a path an object needs `create`, so an
//! allowed program or file cannot be swapped for another.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    field::Field,
    hook::{Hook, Privilege},
    rights::Rights,
    verdict::Family,
};

use super::pointer;
use crate::{
    control::{PASS, Point, privilege},
    kernel::Typed,
    name::Place,
    subject::Subject,
};

// Stable since 2.6 or 3.x; macros in the kernel, so not in BTF.
const FMODE_READ: u32 = 0x1;
const FMODE_WRITE: u32 = 0x2;
/// Set on files that the kernel opens for itself: the backing file below an overlayfs file, whose path is that of
/// another tree (measured on 6.1, 6.12, 6.18 and 7.3). The overlay file was judged just before.
const FMODE_NOACCOUNT: u32 = 0x2000_0000;
const O_TRUNC: u32 = 0o1_000;
/// `__O_TMPFILE`, without the `O_DIRECTORY` that comes with it.
const O_TMPFILE: u32 = 0o20_000_000;
const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFSOCK: u32 = 0o140_000;
const S_IFREG: u16 = 0o100_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFLNK: u16 = 0o120_000;
const PIPEFS_MAGIC: u64 = 0x5049_5045;
const RENAME_EXCHANGE: u32 = 2;

const fn file_point(hook: Hook) -> Point {
    Point::new(hook, Family::File)
}

/// Rights that an open file's mode stands for. An access mode of 3 opens for ioctl only but asks for both.
#[inline(always)]
const fn needed_by_mode(mode: u32) -> Rights {
    let mut needed = Rights::NONE;
    if mode & FMODE_READ != 0 {
        needed = needed.union(Rights::READ);
    }
    if mode & FMODE_WRITE != 0 {
        needed = needed.union(Rights::WRITE);
    }
    if needed.is_empty() { Rights::READ.union(Rights::WRITE) } else { needed }
}

/// Judges every open. (Oldest kernel: 5.7.)
#[lsm(hook = "file_open")]
pub fn file_open(ctx: LsmContext) -> i32 {
    let file = pointer(&ctx, 0);
    let point = file_point(Hook::FileOpen);
    point.judge(|subject| {
        let mode = file.get::<u32>(Field::FileMode);
        if mode & FMODE_NOACCOUNT != 0 || is_anonymous_pipe(file) {
            return PASS;
        }
        let flags = file.get::<u32>(Field::FileFlags);
        let temporary = flags & O_TMPFILE != 0;
        let mut needed = needed_by_mode(mode);
        // `O_RDONLY | O_TRUNC` empties the file, and from 6.2 on passes no `path_truncate`.
        if flags & O_TRUNC != 0 {
            needed = needed.union(Rights::WRITE);
        }
        if temporary {
            needed = needed.union(Rights::CREATE);
        }
        point.decide_place(subject, Place::of_file(file), temporary, needed)
    })
}

/// A pipe re-opened through `/proc/self/fd`: the task holds it already, and it leads nowhere else.
#[inline(always)]
fn is_anonymous_pipe(file: Typed) -> bool {
    let inode = file.follow(Field::FileInode);
    inode.get::<u16>(Field::InodeMode) & S_IFMT == S_IFIFO
        && inode.follow(Field::InodeSb).get::<u64>(Field::SbMagic) == PIPEFS_MAGIC
}

/// Judges a file received over a unix socket as if it were opened now. Pipes, sockets and other descriptors without a
/// place in the file system pass: they are judged where they are used. (Oldest kernel: 5.7.)
#[lsm(hook = "file_receive")]
pub fn file_receive(ctx: LsmContext) -> i32 {
    let file = pointer(&ctx, 0);
    let point = file_point(Hook::FileReceive);
    point.judge(|subject| {
        let kind = file.follow(Field::FileInode).get::<u16>(Field::InodeMode) & S_IFMT;
        if kind != S_IFREG && kind != S_IFDIR && kind != S_IFLNK {
            return PASS;
        }
        let needed = needed_by_mode(file.get::<u32>(Field::FileMode));
        point.decide_place(subject, Place::of_file(file), false, needed)
    })
}

/// Rights on an entry of the directory `dir`.
#[inline(always)]
fn entry(point: Point, subject: &Subject, dir: Typed, dentry: Typed, pending: bool, needed: Rights) -> i32 {
    point.decide_place(subject, Place::of_entry(dir, dentry.raw()), pending, needed)
}

/// Judges the creation of files, fifos, devices and unix socket names, by `mknod`, `open` and `bind`. (Oldest kernel:
/// 5.7; needs `CONFIG_SECURITY_PATH`.)
#[lsm(hook = "path_mknod")]
pub fn path_mknod(ctx: LsmContext) -> i32 {
    let (dir, dentry, mode) = (pointer(&ctx, 0), pointer(&ctx, 1), ctx.arg::<u32>(2));
    let point = file_point(Hook::PathMknod);
    let kind = mode & S_IFMT as u32;
    if kind == S_IFCHR || kind == S_IFBLK {
        let verdict = privilege(Hook::PathMknod, Privilege::MakeDevice);
        if verdict != PASS {
            return verdict;
        }
    }
    let needed = if kind == S_IFSOCK { Rights::UNIX_BIND } else { Rights::CREATE };
    point.judge(|subject| entry(point, subject, dir, dentry, true, needed))
}

/// Judges the creation of directories. (Oldest kernel: 5.7.)
#[lsm(hook = "path_mkdir")]
pub fn path_mkdir(ctx: LsmContext) -> i32 {
    let (dir, dentry) = (pointer(&ctx, 0), pointer(&ctx, 1));
    let point = file_point(Hook::PathMkdir);
    point.judge(|subject| entry(point, subject, dir, dentry, true, Rights::CREATE))
}

/// Judges the creation of symbolic links. Where they point is judged when they are followed. (Oldest kernel: 5.7.)
#[lsm(hook = "path_symlink")]
pub fn path_symlink(ctx: LsmContext) -> i32 {
    let (dir, dentry) = (pointer(&ctx, 0), pointer(&ctx, 1));
    let point = file_point(Hook::PathSymlink);
    point.judge(|subject| entry(point, subject, dir, dentry, true, Rights::CREATE))
}

/// Judges the removal of a name. (Oldest kernel: 5.7.)
#[lsm(hook = "path_unlink")]
pub fn path_unlink(ctx: LsmContext) -> i32 {
    let (dir, dentry) = (pointer(&ctx, 0), pointer(&ctx, 1));
    let point = file_point(Hook::PathUnlink);
    point.judge(|subject| entry(point, subject, dir, dentry, false, Rights::WRITE))
}

/// Judges the removal of a directory. (Oldest kernel: 5.7.)
#[lsm(hook = "path_rmdir")]
pub fn path_rmdir(ctx: LsmContext) -> i32 {
    let (dir, dentry) = (pointer(&ctx, 0), pointer(&ctx, 1));
    let point = file_point(Hook::PathRmdir);
    point.judge(|subject| entry(point, subject, dir, dentry, false, Rights::WRITE))
}

/// Judges both ends of a rename. The object must be the task's to read and write under its old name, else the new name
/// would lend it rights; an exchange gives both names an object. A directory takes along names that no rule was asked
/// about, so moving one is a privilege. (Oldest kernel: 5.7; `flags` since 5.19.)
#[lsm(hook = "path_rename")]
pub fn path_rename(ctx: LsmContext) -> i32 {
    let (old_dir, old, new_dir, new) =
        (pointer(&ctx, 0), pointer(&ctx, 1), pointer(&ctx, 2), pointer(&ctx, 3));
    let exchange = ctx.arg::<u32>(4) & RENAME_EXCHANGE != 0;
    if is_directory(old) || (exchange && is_directory(new)) {
        let verdict = privilege(Hook::PathRename, Privilege::RenameDirectory);
        if verdict != PASS {
            return verdict;
        }
    }
    let point = file_point(Hook::PathRename);
    let all = Rights::READ.union(Rights::WRITE).union(Rights::CREATE);
    let moved = Rights::READ.union(Rights::WRITE);
    let target = if exchange { all } else { Rights::WRITE.union(Rights::CREATE) };
    let source = if exchange { all } else { moved };
    point.judge(|subject| {
        let verdict = entry_apart(subject, point.hook, Place::of_entry(old_dir, old.raw()), source);
        if verdict != PASS {
            return verdict;
        }
        entry_apart(subject, point.hook, Place::of_entry(new_dir, new.raw()), target)
    })
}

/// [`entry`], out of line: a program that decides twice in one frame takes more than the 512 bytes of stack that the
/// verifier grants a call chain. Plain arguments, because a call passes five registers.
#[inline(never)]
fn entry_apart(subject: &Subject, hook: Hook, place: Place, needed: Rights) -> i32 {
    file_point(hook).decide_place(subject, place, true, needed)
}

#[inline(always)]
fn is_directory(dentry: Typed) -> bool {
    let inode = dentry.follow(Field::DentryInode);
    !inode.is_null() && inode.get::<u16>(Field::InodeMode) & S_IFMT == S_IFDIR
}

/// Judges a hard link: the new name is created, and the object must be the task's to read and write under its old
/// name, else a link would lend it the new name's rights. Both names lie on one mount. (Oldest kernel: 5.7.)
#[lsm(hook = "path_link")]
pub fn path_link(ctx: LsmContext) -> i32 {
    let (old, new_dir, new) = (pointer(&ctx, 0), pointer(&ctx, 1), pointer(&ctx, 2));
    let point = file_point(Hook::PathLink);
    let source = Rights::READ.union(Rights::WRITE);
    point.judge(|subject| {
        let verdict = entry_apart(subject, point.hook, Place::of_entry(new_dir, old.raw()), source);
        if verdict != PASS {
            return verdict;
        }
        entry_apart(subject, point.hook, Place::of_entry(new_dir, new.raw()), Rights::CREATE)
    })
}

/// Judges `truncate(2)`. `ftruncate` works on a file that was opened for writing. (Oldest kernel: 5.7.)
#[lsm(hook = "path_truncate")]
pub fn path_truncate(ctx: LsmContext) -> i32 {
    change(file_point(Hook::PathTruncate), pointer(&ctx, 0))
}

/// Judges mode changes. (Oldest kernel: 5.7.)
#[lsm(hook = "path_chmod")]
pub fn path_chmod(ctx: LsmContext) -> i32 {
    change(file_point(Hook::PathChmod), pointer(&ctx, 0))
}

/// Judges owner changes. (Oldest kernel: 5.7.)
#[lsm(hook = "path_chown")]
pub fn path_chown(ctx: LsmContext) -> i32 {
    change(file_point(Hook::PathChown), pointer(&ctx, 0))
}

#[inline(always)]
fn change(point: Point, path: Typed) -> i32 {
    point.judge(|subject| point.decide_place(subject, Place::of_path(path), false, Rights::WRITE))
}

/// Judges setting an extended attribute. The hook has no mount, hence no path, so the privilege decides. (Oldest
/// kernel: 5.7.)
#[lsm(hook = "inode_setxattr")]
pub fn inode_setxattr(_: LsmContext) -> i32 {
    privilege(Hook::InodeSetxattr, Privilege::SetXattr)
}

/// Judges removing an extended attribute. (Oldest kernel: 5.7.)
#[lsm(hook = "inode_removexattr")]
pub fn inode_removexattr(_: LsmContext) -> i32 {
    privilege(Hook::InodeRemovexattr, Privilege::SetXattr)
}
