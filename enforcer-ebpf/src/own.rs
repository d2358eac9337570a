//! What is the enforcer's own: its files and directories, its BPF objects, its daemon. No policy gives it to a workload.
//!
//! Objects are told by what the kernel knows them by, never by a name, which whoever mounts can choose: files by the
//! numbers of their file system and inode, BPF objects by their ids, the daemon by its process number and start. Files
//! come and go, so what is listed are directories, and a file is ours if one of the nearest directories above it is.

use enforcer_common::{
    abi::{Keeper, OwnKey, OwnKind, own},
    decide::Request,
    field::Field,
    hook::{Hook, Privilege},
    verdict::{Family, Fault},
};

use crate::{
    control::Point,
    kernel::{self, Raw, Typed},
    maps::{KEEPER, OWN, OWN_FILTER},
};

/// How many levels, the object's own included, are looked at. The loader lists every directory of ours that is deeper.
const LEVELS: u32 = 4;
const FMODE_WRITE: u32 = 0x2;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const PIDTYPE_PID: u32 = 0;

/// What is listed about an object; 0 if nothing.
#[inline(always)]
fn listed(kind: OwnKind, device: u32, number: u64) -> u32 {
    // SAFETY: entries are replaced, never changed in place, and freed after a grace period.
    unsafe { OWN.get(OwnKey { kind: kind.code(), device, number }) }.copied().unwrap_or(0)
}

/// What is listed about an inode.
#[inline(always)]
fn listed_inode(device: u32, number: u64) -> u32 {
    // Every element of an array is there.
    if OWN_FILTER.get(0).is_some_and(|filter| !filter.may_hold(device, number)) {
        return 0;
    }
    listed(OwnKind::Inode, device, number)
}

/// What is listed about the inode of a dentry, which may have none yet.
#[inline(always)]
fn bits(dentry: Typed) -> u32 {
    let inode = dentry.follow(Field::DentryInode);
    if inode.is_null() {
        return 0;
    }
    listed_inode(inode.follow(Field::InodeSb).get(Field::SbDevice), inode.get(Field::InodeNumber))
}

/// The same without the verifier's knowledge of the way.
#[inline(always)]
fn bits_at(dentry: Raw) -> Result<u32, Fault> {
    let inode = dentry.follow(Field::DentryInode)?;
    if inode.is_null() {
        return Ok(0);
    }
    let device = inode.follow(Field::InodeSb)?.get(Field::SbDevice)?;
    Ok(listed_inode(device, inode.get(Field::InodeNumber)?))
}

/// How an object is ours, or a directory that it lies in.
#[inline(always)]
fn held(dentry: Typed) -> u32 {
    let (mut at, mut held) = (dentry, 0);
    for _ in 0..LEVELS {
        held |= bits(at) & (own::WHOLE | own::RECORD);
        at = at.follow(Field::DentryParent);
    }
    held
}

/// Whether an object is ours, or lies in a directory of ours.
#[inline(always)]
pub fn holds(dentry: Typed) -> bool {
    held(dentry) != 0
}

/// The same of what somebody would move, remove, or mount something on: then the way to it counts, too.
#[inline(always)]
pub fn holds_or_leads_to(dentry: Typed) -> bool {
    bits(dentry) & own::WAY != 0 || holds(dentry)
}

/// Whether an open file is ours, for what it was opened for.
#[inline(always)]
pub fn holds_file(file: Typed) -> bool {
    let dentry = file.follow(Field::FileDentry);
    let writes = file.get::<u32>(Field::FileMode) & FMODE_WRITE != 0;
    let held = held(dentry);
    if held & own::WHOLE != 0 || (writes && held != 0) {
        return true;
    }
    let inode = file.follow(Field::FileInode);
    if dentry.follow(Field::DentryInode).as_ptr() != inode.as_ptr() {
        return is_shown_in_ours(inode);
    }
    writes && (bits(dentry.follow(Field::DentryParent)) & own::CONTROLS != 0 || is_about_keeper(inode))
}

/// Whether the file with this inode lies in a directory of ours. Before 6.6 a file that overlayfs opens below itself has
/// the name of the one on the overlay.
///
/// Out of line, for the verifier's sake.
#[inline(never)]
fn is_shown_in_ours(inode: Typed) -> bool {
    // What cannot be read is taken for ours.
    lies_in_ours(inode.raw()).unwrap_or(true)
}

#[inline(always)]
fn lies_in_ours(inode: Raw) -> Result<bool, Fault> {
    if !kernel::has(Field::InodeAliases) || !kernel::has(Field::DentryAlias) {
        return Ok(false);
    }
    let first = inode.embedded(Field::InodeAliases).load::<u64>()?;
    if first == 0 {
        return Ok(false);
    }
    let mut at = Raw(first).container(Field::DentryAlias);
    for _ in 0..LEVELS {
        if bits_at(at)? & (own::WHOLE | own::RECORD) != 0 {
            return Ok(true);
        }
        at = at.follow(Field::DentryParent)?;
    }
    Ok(false)
}

/// Whether a file in procfs is about the daemon: what is written there steers it.
#[inline(never)]
fn is_about_keeper(inode: Typed) -> bool {
    if inode.follow(Field::InodeSb).get::<u64>(Field::SbMagic) != PROC_SUPER_MAGIC {
        return false;
    }
    process_of(inode.raw()).unwrap_or(true)
}

#[inline(always)]
fn process_of(inode: Raw) -> Result<bool, Fault> {
    let pid = inode.container(Field::ProcInodeVfs).follow(Field::ProcInodePid)?;
    if pid.is_null() {
        return Ok(false);
    }
    let task = kernel::task_of(pid, PIDTYPE_PID)?;
    if task.is_null() {
        return Ok(false);
    }
    let Some(keeper) = KEEPER.get(0) else { return Ok(false) };
    if keeper.process == 0 || task.get::<u32>(Field::TaskTgid)? != keeper.process {
        return Ok(false);
    }
    let started = task.follow(Field::TaskGroupLeader)?.get::<u64>(Field::TaskStarted)?;
    Ok(started / Keeper::TICK == keeper.started)
}

/// Whether a task is one of the daemon's.
#[inline(always)]
pub fn is_keeper(task: Typed) -> bool {
    let Some(keeper) = KEEPER.get(0) else { return false };
    keeper.process != 0
        && task.get::<u32>(Field::TaskTgid) == keeper.process
        && task.follow(Field::TaskGroupLeader).get::<u64>(Field::TaskStarted) / Keeper::TICK == keeper.started
}

/// Whether these are the daemon's credentials.
#[inline(always)]
pub fn are_keepers(credentials: Typed) -> bool {
    KEEPER.get(0).is_some_and(|keeper| keeper.process != 0 && keeper.credentials == credentials.raw().0)
}

/// Notes the daemon's credentials. One hook tells no more than those of the task that it is about.
#[inline(always)]
pub fn note_credentials() {
    let Some(keeper) = KEEPER.get_ptr_mut(0) else { return };
    let task = kernel::current();
    if is_keeper(task) {
        // SAFETY: a live element of the map; one aligned store.
        unsafe { (&raw mut (*keeper).credentials).write_volatile(task.follow(Field::TaskRealCred).raw().0) };
    }
}

/// Whether the BPF object of this kind and id is ours.
#[inline(always)]
pub fn is_object(kind: OwnKind, id: u32) -> bool {
    listed(kind, 0, u64::from(id)) != 0
}

/// A privileged door: opened by the policy, but never to what is ours.
#[inline(always)]
pub fn privilege(hook: Hook, privilege: Privilege, is_ours: impl FnOnce() -> bool) -> i32 {
    let point = Point::new(hook, Family::Privilege);
    point.judge(|subject| point.owned(is_ours()).decide(subject, &Request::Privilege(privilege)))
}
