//! Allows that are remembered with the file, so that the next open looks nothing up.
//!
//! An entry lies in the storage of the inode, and goes with it. It holds everything that the answer hung on, and counts
//! only while all of that is the same:
//!
//! - the policy, and the generation of the tables;
//! - the name: the dentry is the same and hashed, and nobody has renamed, mounted, unmounted or moved anything anywhere
//!   since (the sequence counts of `rename_lock` and `mount_lock`, by which every walk finds out whether it was
//!   disturbed);
//! - who looks: mount and mount namespace;
//! - the inode: it has one name only, and has not changed since (`ctime`, which no system call sets). A dentry can be
//!   freed and its memory become another dentry of the same inode without any of the above; for that the inode must get
//!   a second name, which changes it.
//!
//! `ctime` has the resolution of a tick. So what is decided is not remembered at once: only an allow that is decided
//! again at least [`SETTLED`] later, with the same time, counts from then on.
//!
//! Refusals are not remembered: each is decided and reported. Nor is anything on file systems that keep their own time,
//! or whose names depend on who looks (procfs).

use core::ptr;

use enforcer_common::{
    abi::{Counter, Slot},
    field::Field,
    rights::Rights,
};

use crate::{
    kernel::{self, Typed},
    maps::{ALLOWED, SEEN},
    name::{self, Scratch},
    subject::{Claim, Subject},
    tables::{Maps, count},
};

/// Places for dentries that were decided about. A power of two.
pub const SEEN_SLOTS: u32 = 4096;
/// How long an inode must have been unchanged, in nanoseconds. A tick is at most 10 ms (`CONFIG_HZ=100`).
const SETTLED: u64 = 20_000_000;
/// How long an entry stays although others ask, in nanoseconds: a file that several policies share changes hands that
/// often at most.
const TENURE: u64 = 100_000_000;

// Local file systems: the kernel itself keeps their names and times.
const EXT_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;
const BTRFS_MAGIC: u64 = 0x9123_683e;
const F2FS_MAGIC: u64 = 0xf2f5_2010;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
const SQUASHFS_MAGIC: u64 = 0x7371_7368;
const EROFS_MAGIC: u64 = 0xe0f5_e1e2;

/// An allow.
#[repr(C)]
pub struct Allowed {
    grounds: Grounds,
    /// What is allowed; nothing while the entry does not count yet.
    rights: u64,
    /// When it was written, in nanoseconds since boot.
    written: u64,
}

/// What an allow hangs on.
#[derive(PartialEq, Eq)]
#[repr(C)]
struct Grounds {
    generation: u64,
    /// Incarnation and slot.
    policy: u64,
    dentry: u64,
    mount: u64,
    namespace: u64,
    /// Of the locks on the tree of names.
    sequence: u64,
    /// When the inode changed last.
    seconds: u64,
    nanos: u64,
}

/// Whether an allow is remembered by which the task has these rights on an open file. `needed` is not empty.
///
/// The head of the policy need not be looked at: the same generation has the same heads, and it was live then.
#[inline(always)]
pub fn allows(claim: Claim<'_>, file: Typed, needed: Rights) -> bool {
    holds(claim.generation, policy(claim.label.slot, claim.label.incarnation), file, needed)
}

/// Whether it is remembered that a file of the host is no launcher's.
#[inline(always)]
pub fn is_no_launcher(maps: &Maps, file: Typed) -> bool {
    holds(maps.generation, NO_LAUNCHER, file, Rights::EXEC)
}

/// Whether something is remembered of a file that holds for the current task, as long as nothing has changed.
#[inline(always)]
fn holds(generation: u64, policy: u64, file: Typed, needed: Rights) -> bool {
    if !kernel::remembers() {
        return false;
    }
    let inode = file.follow(Field::FileInode);
    let Some(entry) = kernel::inode_storage(&ALLOWED, inode) else { return false };
    let grounds = &entry.grounds;
    if !Rights(entry.rights as u16).contains(needed)
        || grounds.generation != generation
        || grounds.policy != policy
    {
        return false;
    }
    let dentry = file.follow(Field::FileDentry);
    if grounds.dentry != dentry.raw().0
        || grounds.mount != file.follow(Field::FileMnt).raw().0
        || grounds.namespace != name::own_namespace().0
        || dentry.follow(Field::DentryHashPprev).is_null()
    {
        return false;
    }
    let Some((seconds, nanos)) = kernel::changed(inode) else { return false };
    grounds.seconds == seconds
        && grounds.nanos == nanos
        && inode.get::<u32>(Field::InodeLinks) == 1
        && kernel::tree_sequence() == Ok(grounds.sequence)
}

/// Remembers that the task has these rights on an open file, as was decided just now. `scratch` has the walk that found
/// its name.
#[inline(always)]
pub fn remember(subject: &Subject, file: Typed, needed: Rights, scratch: &mut Scratch) {
    keep(subject.maps.generation, policy(subject.slot, subject.incarnation), file, needed, scratch);
}

/// Remembers that a file is no launcher's, as was found out just now.
#[inline(always)]
pub fn remember_no_launcher(maps: &Maps, file: Typed, scratch: &mut Scratch) {
    keep(maps.generation, NO_LAUNCHER, file, Rights::EXEC, scratch);
}

#[inline(never)]
fn keep(generation: u64, policy: u64, file: Typed, needed: Rights, scratch: &mut Scratch) {
    if !kernel::remembers() {
        return;
    }
    let inode = file.follow(Field::FileInode);
    let sequence = scratch.sequence();
    let next = &mut scratch.allowed;
    next.grounds.dentry = file.follow(Field::FileDentry).raw().0;
    // Most files are opened once, and then memory and time for an entry are wasted.
    if is_new(&next.grounds.dentry) || !is_kept_by_kernel(inode) || inode.get::<u32>(Field::InodeLinks) != 1 {
        return;
    }
    let Some((seconds, nanos)) = kernel::changed(inode) else { return };
    let now = kernel::boot_ns();
    next.grounds.generation = generation;
    next.grounds.policy = policy;
    next.grounds.mount = file.follow(Field::FileMnt).raw().0;
    next.grounds.namespace = name::own_namespace().0;
    next.grounds.sequence = sequence;
    next.grounds.seconds = seconds;
    next.grounds.nanos = nanos;
    next.rights = 0;
    next.written = now;
    if let Some(entry) = kernel::inode_storage(&ALLOWED, inode) {
        let age = now.wrapping_sub(entry.written);
        if next.grounds != entry.grounds {
            if age < TENURE {
                return;
            }
        } else if entry.rights != 0 {
            next.rights = entry.rights | u64::from(needed.0);
        } else if age < SETTLED {
            return;
        } else {
            next.rights = u64::from(needed.0);
        }
    }
    kernel::replace_in_inode(&ALLOWED, inode, next);
    if next.rights != 0 {
        count(Counter::Remembered);
    }
}

/// In place of a policy: what is remembered is that the file is no launcher's. No slot has that number.
const NO_LAUNCHER: u64 = u64::MAX;

#[inline(always)]
fn policy(slot: Slot, incarnation: u32) -> u64 {
    u64::from(incarnation) << 32 | u64::from(slot)
}

/// Whether a dentry was not decided about before, as far as is known: others may have taken its place.
#[inline(always)]
fn is_new(dentry: &u64) -> bool {
    // SAFETY: a live reference. Read back from memory, because the verifier lets nobody calculate with a pointer.
    let dentry = unsafe { ptr::from_ref(dentry).read_volatile() };
    // Dentries are 192 bytes apart.
    let slot = (dentry >> 6 ^ dentry >> 18) as u32 % SEEN_SLOTS;
    let Some(seen) = SEEN.get_ptr_mut(slot) else { return true };
    // SAFETY: a live map value of eight bytes. Others may write at the same time: it is a hint.
    unsafe {
        if seen.read_volatile() == dentry {
            return false;
        }
        seen.write_volatile(dentry);
    }
    true
}

/// Whether the inode lies on a file system whose names and times the kernel itself keeps.
#[inline(always)]
fn is_kept_by_kernel(inode: Typed) -> bool {
    let magic = inode.follow(Field::InodeSb).get::<u64>(Field::SbMagic);
    magic == EXT_MAGIC
        || magic == TMPFS_MAGIC
        || magic == OVERLAYFS_MAGIC
        || magic == XFS_MAGIC
        || magic == BTRFS_MAGIC
        || magic == F2FS_MAGIC
        || magic == RAMFS_MAGIC
        || magic == SQUASHFS_MAGIC
        || magic == EROFS_MAGIC
}
