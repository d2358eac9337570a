//! Files, directories, and everything that changes them.
//!
//! Whatever changes an object needs `write` on its path, and whatever gives a path an object needs `create`, so an
//! allowed program or file cannot be swapped for another.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::program,
    decide::Request,
    field::Field,
    hook::{Hook, Privilege},
    rights::Rights,
    verdict::{Family, Fault},
};

use super::{interpreter, pointer};
use crate::{
    cache,
    control::{About, PASS, Point, privilege},
    kernel::{self, Raw, Typed},
    name::{self, Place},
    own,
    subject::{self, Claim, Subject},
};

// Stable since 2.6 or 3.x; macros in the kernel, so not in BTF.
const FMODE_READ: u32 = 0x1;
const FMODE_WRITE: u32 = 0x2;
/// Set on files that the kernel opens for itself: the backing file below an overlayfs file, whose path is that of
/// another tree (measured on 6.1, 6.12, 6.18 and 7.3). The overlay file was judged just before.
const FMODE_NOACCOUNT: u32 = 0x2000_0000;
/// `__FMODE_EXEC` in `f_flags`: the kernel opens a program or its ELF interpreter. User space cannot set it, but for
/// `mq_open(2)`, which takes any flag.
const FMODE_EXEC: u32 = 0x20;
const O_TRUNC: u32 = 0o1_000;
/// `__O_TMPFILE`, without the `O_DIRECTORY` that comes with it.
const O_TMPFILE: u32 = 0o20_000_000;
pub const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFSOCK: u32 = 0o140_000;
pub const S_IFREG: u16 = 0o100_000;
pub const S_IFDIR: u16 = 0o040_000;
const S_IFLNK: u16 = 0o120_000;
// `ia_valid` bits.
const ATTR_SIZE: u32 = 1 << 3;
const ATTR_ATIME: u32 = 1 << 4;
const ATTR_MTIME: u32 = 1 << 5;
// `fcntl` commands, all of them ABI.
const F_SETFL: u32 = 4;
const F_SETOWN: u32 = 8;
const F_SETSIG: u32 = 10;
const F_SETOWN_EX: u32 = 15;
/// `O_ASYNC`: the kernel sends the signal when the file becomes ready.
const FASYNC: u64 = 0o20_000;
/// The kinds of owners (`enum pid_type`) up to this one are single processes.
const PIDTYPE_TGID: u32 = 1;
/// `FAN_OPEN_PERM`, `FAN_ACCESS_PERM`, `FAN_OPEN_EXEC_PERM`, `FAN_PRE_ACCESS`: the watcher's answer decides.
const FAN_PERMISSION: u64 = 0x0001_0000 | 0x0002_0000 | 0x0004_0000 | 0x0010_0000;
const FSNOTIFY_OBJ_TYPE_INODE: u32 = 0;
const MQUEUE_MAGIC: u64 = 0x1980_0202;
const PIPEFS_MAGIC: u64 = 0x5049_5045;
const PID_FS_MAGIC: u64 = 0x5049_4446;
/// Files of this file system look like regular ones since 6.17.
const ANON_INODE_FS_MAGIC: u64 = 0x0904_1934;
/// The largest error number that the kernel puts into a pointer.
const MAX_ERRNO: u64 = 4095;
const RENAME_EXCHANGE: u32 = 2;

const fn file_point(hook: Hook) -> Point {
    Point::new(hook, Family::File)
}

/// Rights that an open file's mode stands for. An access mode of 3 opens for ioctl only but asks for both.
#[inline(always)]
pub const fn needed_by_mode(mode: u32) -> Rights {
    let needed = Rights(((mode & (FMODE_READ | FMODE_WRITE)) << RIGHTS_OF_MODE) as u16);
    if needed.is_empty() { Rights::READ.union(Rights::WRITE) } else { needed }
}

/// How far the bits of the rights are from those of the mode, which are in the same order.
const RIGHTS_OF_MODE: u32 = 2;
const _: () = assert!(
    Rights::READ.0 as u32 == FMODE_READ << RIGHTS_OF_MODE
        && Rights::WRITE.0 as u32 == FMODE_WRITE << RIGHTS_OF_MODE
);

/// An open that is going on.
#[derive(Clone, Copy)]
struct Open {
    mode: u32,
    flags: u32,
}

impl Open {
    #[inline(always)]
    fn of(file: Typed) -> Self {
        let (mode, mut flags) = (file.get(Field::FileMode), file.get::<u32>(Field::FileFlags));
        if flags & FMODE_EXEC != 0 && is_message_queue(file) {
            flags &= !FMODE_EXEC;
        }
        Self { mode, flags }
    }

    /// Whether the kernel opens what somebody starts.
    #[inline(always)]
    const fn is_start(self) -> bool {
        self.flags & FMODE_EXEC != 0
    }

    /// Whether the kernel opens it for itself.
    #[inline(always)]
    const fn is_by_kernel(self) -> bool {
        self.mode & FMODE_NOACCOUNT != 0
    }

    #[inline(always)]
    const fn is_temporary(self) -> bool {
        self.flags & O_TMPFILE != 0
    }

    #[inline(always)]
    const fn reads(self) -> bool {
        self.mode & FMODE_READ != 0
    }

    /// Whether the same is needed each time. What an interpreter needs depends on what it has opened before.
    #[inline(always)]
    const fn is_plain(self, program: u32) -> bool {
        program & (program::INTERPRETER | program::SEEKING) == 0 && !self.is_temporary()
    }

    #[inline(always)]
    const fn needed(self) -> Rights {
        let mut needed = needed_by_mode(self.mode);
        // `O_RDONLY | O_TRUNC` empties the file, and from 6.2 on passes no `path_truncate`.
        if self.flags & O_TRUNC != 0 {
            needed = needed.union(Rights::WRITE);
        }
        if self.is_temporary() {
            needed = needed.union(Rights::CREATE);
        }
        needed
    }
}

/// Judges every open, but for those by which the kernel starts a program: `bprm_check_security` judges the program and
/// `mmap_file` its ELF interpreter, and their events say what really was refused. (Oldest kernel: 5.7.)
#[lsm(hook = "file_open")]
pub fn file_open(ctx: LsmContext) -> i32 {
    let file = pointer(&ctx, 0);
    let point = file_point(Hook::FileOpen);
    let is_answered = |claim: Claim<'_>| {
        let open = Open::of(file);
        // What the kernel opens for itself is judged no further than whether it is ours.
        open.is_start()
            || (open.is_plain(claim.label.program)
                && !open.is_by_kernel()
                && cache::allows(claim, file, open.needed()))
    };
    let about = About::file(Rights::WRITE);
    point.judge_own_unless(
        is_answered,
        || own::is_open_sealed(file),
        about,
        |subject| {
            let open = Open::of(file);
            // By adopted tasks, which were not asked above.
            if open.is_start() {
                return PASS;
            }
            let program = subject.program();
            let (mut needed, temporary) = (open.needed(), open.is_temporary());
            let is_ours = own::holds_file(file);
            if !is_ours && (open.is_by_kernel() || is_nobodys(file, program)) {
                return PASS;
            }
            let point = point.owned(is_ours);
            let place = Place::of_file(file);
            let scratch = match name::scratch() {
                Ok(scratch) => scratch,
                Err(fault) => return point.fault(subject, needed, fault),
            };
            let span = match name::of_place(place, temporary, scratch) {
                Ok(span) => span,
                Err(fault) => return point.fault(subject, needed, fault),
            };
            // Looked at again, for the stack's sake.
            let open = Open::of(file);
            if open.is_plain(program) {
                return point.decide_named_file(subject, file, span, scratch, needed);
            }
            let interprets = program & program::INTERPRETER != 0 && open.reads() && !is_directory(file);
            if interprets {
                needed = needed.union(Rights(interpreter::needed_to_open(program, &span, scratch)));
            }
            let verdict = point.decide_named(subject, span, scratch, needed);
            if verdict == PASS && interprets {
                interpreter::opened(subject, program, place.dentry.raw());
            }
            verdict
        },
    )
}

/// Whether opening it is not for policies to judge, because it leads nowhere or somebody else was asked.
#[inline(always)]
fn is_nobodys(file: Typed, program: u32) -> bool {
    is_process_handle(file)
        || (kernel::acts_for_another() && is_on_internal_mount(file))
        || (program & program::SEEKING == 0 && is_anonymous_pipe(file))
}

#[inline(always)]
fn is_message_queue(file: Typed) -> bool {
    file.follow(Field::FileInode).follow(Field::InodeSb).get::<u64>(Field::SbMagic) == MQUEUE_MAGIC
}

#[inline(always)]
fn is_directory(file: Typed) -> bool {
    file.follow(Field::FileInode).get::<u16>(Field::InodeMode) & S_IFMT == S_IFDIR
}

/// A pipe re-opened through `/proc/self/fd`: the task holds it already, and it leads nowhere else.
#[inline(always)]
fn is_anonymous_pipe(file: Typed) -> bool {
    let inode = file.follow(Field::FileInode);
    inode.get::<u16>(Field::InodeMode) & S_IFMT == S_IFIFO
        && inode.follow(Field::InodeSb).get::<u64>(Field::SbMagic) == PIPEFS_MAGIC
}

/// A pidfd, a file of its own since 6.9: a handle without content, judged where it is used.
#[inline(always)]
fn is_process_handle(file: Typed) -> bool {
    file.follow(Field::FileInode).follow(Field::InodeSb).get::<u64>(Field::SbMagic) == PID_FS_MAGIC
}

/// Whether the file lies on a mount that the kernel made for itself (`MNT_NS_INTERNAL`). Overlayfs opens what it copies
/// up there, with its mounter's credentials; what the task does was judged on the overlay. Other credentials alone do
/// not tell: a core dump has them as well, but ends up where user space can reach it.
#[inline(always)]
fn is_on_internal_mount(file: Typed) -> bool {
    let mount = file.follow(Field::FileMnt).raw().container(Field::MountVfs);
    mount.get::<u64>(Field::MountNs).is_ok_and(|namespace| namespace >= u64::MAX - (MAX_ERRNO - 1))
}

/// Whether an inode of this mode, on a file system of this kind, is a place where something is kept: a file, a directory,
/// a symbolic link or a disk. Pipes, sockets, terminals, and what has no place in the file system, are not.
#[inline(always)]
pub const fn has_content(mode: u16, magic: u64) -> bool {
    let kind = mode & S_IFMT;
    let kept = kind == S_IFREG || kind == S_IFDIR || kind == S_IFLNK || kind as u32 == S_IFBLK;
    kept && magic != PID_FS_MAGIC && magic != ANON_INODE_FS_MAGIC
}

/// Judges a file received over a unix socket, or fetched by `pidfd_getfd`, as if it were opened now. Pipes, sockets and
/// other descriptors without a place in the file system pass: they are judged where they are used, which for connected
/// sockets is every send. Whatever it is, it may signal nobody outside the workload. (Oldest kernel: 5.7.)
#[lsm(hook = "file_receive")]
pub fn file_receive(ctx: LsmContext) -> i32 {
    let file = pointer(&ctx, 0);
    let point = file_point(Hook::FileReceive);
    point.judge(|subject| {
        let verdict = judge_handed_owner(Hook::FileReceive, subject, file.raw());
        if verdict != PASS {
            return verdict;
        }
        let inode = file.follow(Field::FileInode);
        let magic = inode.follow(Field::InodeSb).get::<u64>(Field::SbMagic);
        if !has_content(inode.get::<u16>(Field::InodeMode), magic) {
            return PASS;
        }
        let needed = needed_by_mode(file.get::<u32>(Field::FileMode));
        if cache::allows(subject.claim(), file, needed) {
            return PASS;
        }
        point.owned(own::holds_file(file)).decide_file(subject, file, needed)
    })
}

/// Rights on an entry of the directory `dir`.
#[inline(always)]
fn entry(point: Point, subject: &Subject, dir: Typed, dentry: Typed, pending: bool, needed: Rights) -> i32 {
    point.decide_place(subject, Place::of_entry(dir, dentry), pending, needed)
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
    point.judge(|subject| entry_apart(subject, point.hook, Place::of_entry(dir, dentry), needed))
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
    if is_directory_entry(old) || (exchange && is_directory_entry(new)) {
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
        let verdict = entry_apart(subject, point.hook, Place::of_entry(old_dir, old), source);
        if verdict != PASS {
            return verdict;
        }
        entry_apart(subject, point.hook, Place::of_entry(new_dir, new), target)
    })
}

/// [`entry`], out of line: a program that decides twice in one frame takes more than the 512 bytes of stack that the
/// verifier grants a call chain. Plain arguments, because a call passes five registers.
#[inline(never)]
fn entry_apart(subject: &Subject, hook: Hook, place: Place, needed: Rights) -> i32 {
    file_point(hook).decide_place(subject, place, true, needed)
}

#[inline(always)]
fn is_directory_entry(dentry: Typed) -> bool {
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
        let verdict = entry_apart(subject, point.hook, Place::of_entry(new_dir, old), source);
        if verdict != PASS {
            return verdict;
        }
        entry_apart(subject, point.hook, Place::of_entry(new_dir, new), Rights::CREATE)
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

/// A change of an object of which the hook has the dentry alone.
#[inline(always)]
fn change_dentry(hook: Hook, dentry: Typed) -> i32 {
    change_dentry_if(hook, dentry, true)
}

/// The same, which policies judge only if `is_judged`.
#[inline(always)]
fn change_dentry_if(hook: Hook, dentry: Typed, is_judged: bool) -> i32 {
    let point = file_point(hook);
    point.judge_own(
        || own::is_sealed_in(dentry),
        About::file(Rights::WRITE),
        |subject| {
            let is_ours = own::holds(dentry);
            // Overlayfs does to the file below, with its mounter's credentials, what was judged on its own file just
            // before. A task cannot bring this about: `access(2)` changes nothing, and other credentials for `io_uring`
            // are a privilege.
            if !is_ours && (!is_judged || kernel::acts_for_another()) {
                return PASS;
            }
            point.owned(is_ours).decide_dentry(subject, dentry, Rights::WRITE)
        },
    )
}

/// Judges setting an extended attribute. (Oldest kernel: 5.7.)
#[lsm(hook = "inode_setxattr")]
pub fn inode_setxattr(ctx: LsmContext) -> i32 {
    change_dentry(Hook::InodeSetxattr, pointer(&ctx, 1))
}

/// Judges removing an extended attribute. (Oldest kernel: 5.7.)
#[lsm(hook = "inode_removexattr")]
pub fn inode_removexattr(ctx: LsmContext) -> i32 {
    change_dentry(Hook::InodeRemovexattr, pointer(&ctx, 1))
}

/// Judges setting an access control list, before 6.2 an extended attribute like others. (Oldest kernel: 6.2.)
#[lsm(hook = "inode_set_acl")]
pub fn inode_set_acl(ctx: LsmContext) -> i32 {
    change_dentry(Hook::InodeSetAcl, pointer(&ctx, 1))
}

/// Judges removing an access control list. (Oldest kernel: 6.2.)
#[lsm(hook = "inode_remove_acl")]
pub fn inode_remove_acl(ctx: LsmContext) -> i32 {
    change_dentry(Hook::InodeRemoveAcl, pointer(&ctx, 1))
}

/// Judges setting file flags; before 6.17 `file_ioctl` does. (Oldest kernel: 6.17.)
#[lsm(hook = "inode_file_setattr")]
pub fn inode_file_setattr(ctx: LsmContext) -> i32 {
    change_dentry(Hook::InodeFileSetattr, pointer(&ctx, 0))
}

/// Judges changes of times. Mode, owner and size, which come here as well, were judged with their path. (Oldest kernel:
/// 5.7; an idmap comes first since 6.2.)
#[lsm(hook = "inode_setattr")]
pub fn inode_setattr(ctx: LsmContext) -> i32 {
    // Two whole branches: the verifier wants constant places in the context, and refuses one that a kernel lacks
    // unless it can tell that the branch is dead.
    if kernel::has(Field::MntIdmapCount) {
        kernel::apart();
        judge_times(pointer(&ctx, 1), pointer(&ctx, 2))
    } else {
        judge_times(pointer(&ctx, 0), pointer(&ctx, 1))
    }
}

#[inline(always)]
fn judge_times(dentry: Typed, change: Typed) -> i32 {
    let valid = change.get::<u32>(Field::IattrValid);
    let is_judged = valid & (ATTR_ATIME | ATTR_MTIME) != 0 && valid & ATTR_SIZE == 0;
    change_dentry_if(Hook::InodeSetattr, dentry, is_judged)
}

/// Judges by whom a file's owner is set, and what it is sent, as nobody can tell where the signal is sent: that may be
/// in an interrupt, on any task's behalf. A process may have its own files signal itself; anything else is a signal to
/// somebody else. (Oldest kernel: 5.7.)
#[lsm(hook = "file_fcntl")]
pub fn file_fcntl(ctx: LsmContext) -> i32 {
    let (file, command, argument) = (pointer(&ctx, 0), ctx.arg::<u32>(1), ctx.arg::<u64>(2));
    match command {
        F_SETOWN if argument as u32 == 0 => PASS,
        F_SETOWN => towards_own(Hook::FileFcntl, || kernel::is_own_process((argument as u32).cast_signed())),
        // Whom it names, the kernel reads after us.
        F_SETOWN_EX => privilege(Hook::FileFcntl, Privilege::Signal),
        F_SETSIG => judge_owner(Hook::FileFcntl, file),
        F_SETFL if argument & FASYNC != 0 => judge_owner(Hook::FileFcntl, file),
        _ => PASS,
    }
}

/// Judges having a file signal whoever owns it.
#[inline(always)]
pub fn judge_owner(hook: Hook, file: Typed) -> i32 {
    towards_own(hook, || is_owned_by_us(file))
}

#[inline(always)]
fn towards_own(hook: Hook, is_own: impl FnOnce() -> Result<bool, Fault>) -> i32 {
    let point = Point::new(hook, Family::Privilege);
    point.judge(|subject| judge_signal(point, subject, is_own()))
}

#[inline(always)]
fn judge_signal(point: Point, subject: &Subject, is_own: Result<bool, Fault>) -> i32 {
    match is_own {
        Ok(true) => PASS,
        Ok(false) => point.decide(subject, &Request::Privilege(Privilege::Signal)),
        Err(fault) => point.fault(subject, Rights::NONE, fault),
    }
}

/// Judges whom a file signals that somebody else has set up: a byte into a pipe of which another process is the owner is a
/// signal to that process. Those of the workload may (nginx's workers hand each other sockets that their master owns).
///
/// Out of line, for the stack's sake.
#[inline(never)]
pub fn judge_handed_owner(hook: Hook, subject: &Subject, file: Raw) -> i32 {
    judge_signal(Point::new(hook, Family::Privilege), subject, is_owner_inside(subject, file))
}

/// Whether a file signals nobody, or the current process. A terminal that is told to signal chooses its foreground
/// processes.
#[inline(always)]
fn is_owned_by_us(file: Typed) -> Result<bool, Fault> {
    let mode = file.follow(Field::FileInode).get::<u16>(Field::InodeMode) & S_IFMT;
    if u32::from(mode) == S_IFCHR {
        return Ok(false);
    }
    let (owner, kind) = owner_of(file.raw())?;
    Ok(owner.is_null() || is_us(owner, kind)?)
}

/// Whether a file signals nobody, the current process, or one whose cgroup is under the same policy. A group of processes
/// may have members anywhere.
#[inline(always)]
fn is_owner_inside(subject: &Subject, file: Raw) -> Result<bool, Fault> {
    let (owner, kind) = owner_of(file)?;
    if owner.is_null() || is_us(owner, kind)? {
        return Ok(true);
    }
    if kind > PIDTYPE_TGID {
        return Ok(false);
    }
    let task = kernel::task_of(owner, kind)?;
    Ok(task.is_null() || subject::is_bound_alike(subject, task))
}

#[inline(always)]
fn is_us(owner: Raw, kind: u32) -> Result<bool, Fault> {
    let own = kernel::current().follow(Field::TaskGroupLeader).raw().follow(Field::TaskThreadPid)?;
    Ok(owner == own && kind <= PIDTYPE_TGID)
}

/// A file's owner, a `struct pid`, and which kind it is; null if it has none.
#[inline(always)]
fn owner_of(file: Raw) -> Result<(Raw, u32), Fault> {
    if kernel::has(Field::FileOwnerPid) {
        return Ok((file.follow(Field::FileOwnerPid)?, file.get::<u32>(Field::FileOwnerPidType)?));
    }
    let owner = file.follow(Field::FileOwner)?;
    if owner.is_null() {
        return Ok((owner, 0));
    }
    Ok((owner.follow(Field::FownPid)?, owner.get::<u32>(Field::FownPidType)?))
}

/// Judges watches: of one object like reading it, of more than that, or with a say in what others may do, as a
/// privilege. (Oldest kernel: 5.7.)
#[lsm(hook = "path_notify")]
pub fn path_notify(ctx: LsmContext) -> i32 {
    let (path, mask, kind) = (pointer(&ctx, 0), ctx.arg::<u64>(1), ctx.arg::<u32>(2));
    if mask & FAN_PERMISSION != 0 || kind != FSNOTIFY_OBJ_TYPE_INODE {
        return privilege(Hook::PathNotify, Privilege::Fanotify);
    }
    let point = file_point(Hook::PathNotify);
    point.judge(|subject| point.decide_place(subject, Place::of_path(path), false, Rights::READ))
}
