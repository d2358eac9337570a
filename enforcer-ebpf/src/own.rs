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
    control::{About, Point},
    kernel::{self, Raw, Typed},
    maps::{KEEPER, OWN, OWN_FILTER},
    subject,
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
    lies_in(inode.raw(), own::WHOLE | own::RECORD).unwrap_or(true)
}

/// The same of a directory that nobody opens while sealed.
#[inline(never)]
fn is_shown_in_closed(inode: Typed) -> bool {
    lies_in(inode.raw(), own::CLOSED).unwrap_or(true)
}

#[inline(always)]
fn lies_in(inode: Raw, how: u32) -> Result<bool, Fault> {
    if !kernel::has(Field::InodeAliases) || !kernel::has(Field::DentryAlias) {
        return Ok(false);
    }
    let first = inode.embedded(Field::InodeAliases).load::<u64>()?;
    if first == 0 {
        return Ok(false);
    }
    let mut at = Raw(first).container(Field::DentryAlias);
    for _ in 0..LEVELS {
        if bits_at(at)? & how != 0 {
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
    let (process, began) = registered();
    if process == 0 || task.get::<u32>(Field::TaskTgid)? != process {
        return Ok(false);
    }
    let started = task.follow(Field::TaskGroupLeader)?.get::<u64>(Field::TaskStarted)?;
    Ok(started / Keeper::TICK == began)
}

/// The process that is the daemon, and when it started.
#[inline(always)]
fn registered() -> (u32, u64) {
    let keeper = KEEPER.address();
    // SAFETY: a live map value. Volatile, because user space and other programs write it.
    unsafe {
        ((&raw const (*keeper).process).read_volatile(), (&raw const (*keeper).started).read_volatile())
    }
}

/// Whether a task is one of the daemon's.
#[inline(always)]
pub fn is_keeper(task: Typed) -> bool {
    let (process, began) = registered();
    process != 0
        && task.get::<u32>(Field::TaskTgid) == process
        && task.follow(Field::TaskGroupLeader).get::<u64>(Field::TaskStarted) / Keeper::TICK == began
}

/// Whether these are the daemon's credentials.
#[inline(always)]
pub fn are_keepers(credentials: Typed) -> bool {
    // SAFETY: as in `registered`.
    let noted = unsafe { (&raw const (*KEEPER.address()).credentials).read_volatile() };
    registered().0 != 0 && noted == credentials.raw().0
}

/// Notes the daemon's credentials. One hook tells no more than those of the task that it is about.
#[inline(always)]
pub fn note_credentials() {
    let task = kernel::current();
    if is_keeper(task) {
        // SAFETY: a live map value; one aligned store.
        unsafe {
            (&raw mut (*KEEPER.address()).credentials)
                .write_volatile(task.follow(Field::TaskRealCred).raw().0);
        }
    }
}

/// Whether the BPF object of this kind and id is ours.
#[inline(always)]
pub fn is_object(kind: OwnKind, id: u32) -> bool {
    listed(kind, 0, u64::from(id)) != 0
}

/// A privileged door: opened by the policy, but never to what is ours; while sealed neither to the host.
#[inline(always)]
pub fn privilege(
    hook: Hook,
    privilege: Privilege,
    is_ours: impl FnOnce() -> bool,
    is_sealed_in: impl FnOnce() -> bool,
) -> i32 {
    let point = Point::new(hook, Family::Privilege);
    point.judge_own(is_sealed_in, About::door(privilege), |subject| {
        point.owned(is_ours()).decide(subject, &Request::Privilege(privilege))
    })
}

/// Whether the daemon is sealed in: then nobody but it changes what is ours, the host's root included.
#[inline(always)]
pub fn is_sealed() -> bool {
    // SAFETY: as in `registered`.
    unsafe { (&raw const (*KEEPER.address()).sealed).read_volatile() != 0 }
}

/// Which seal that is.
#[inline(always)]
pub fn seal() -> u64 {
    // SAFETY: as in `registered`.
    unsafe { (&raw const (*KEEPER.address()).since).read_volatile() }
}

/// How an object is sealed in, or a directory that it lies in. What is offered to the host is not, but for the directory
/// where it is.
#[inline(always)]
fn sealed_bits(dentry: Typed) -> u32 {
    let mut held = bits(dentry) & (own::WHOLE | own::RECORD | own::CODE | own::CLOSED);
    let mut at = dentry.follow(Field::DentryParent);
    for _ in 1..LEVELS {
        let bits = bits(at);
        if bits & own::OFFERED != 0 {
            break;
        }
        held |= bits & (own::WHOLE | own::RECORD | own::CLOSED);
        at = at.follow(Field::DentryParent);
    }
    held
}

/// Whether the host may not change the object while sealed.
///
/// Out of line, like all that is asked for the host: those under a policy need the stack.
#[inline(never)]
pub fn is_sealed_in(dentry: Typed) -> bool {
    sealed_bits(dentry) != 0
}

/// The same of what somebody would make, move or remove: then the way to it counts, too.
#[inline(never)]
pub fn is_sealed_in_or_leads_there(dentry: Typed) -> bool {
    bits(dentry) & own::WAY != 0 || sealed_bits(dentry) != 0
}

/// Whether the host may not open a file while sealed, for what it is opened for.
#[inline(never)]
pub fn is_open_sealed(file: Typed) -> bool {
    const O_TRUNC: u32 = 0o1_000;
    let dentry = file.follow(Field::FileDentry);
    let writes = file.get::<u32>(Field::FileMode) & FMODE_WRITE != 0
        || file.get::<u32>(Field::FileFlags) & O_TRUNC != 0;
    let held = sealed_bits(dentry);
    let inode = file.follow(Field::FileInode);
    let is_apart = dentry.follow(Field::DentryInode).as_ptr() != inode.as_ptr();
    if !writes {
        let is_closed = held & own::CLOSED != 0 || (is_apart && is_shown_in_closed(inode));
        return is_closed && !subject::is_vouched(kernel::current());
    }
    if held != 0 {
        return true;
    }
    if is_apart {
        return is_shown_in_ours(inode);
    }
    is_control_sealed(dentry) || is_about_keeper(inode)
}

/// Whether a file controls the cgroups of the daemon in a way that is not the service manager's daily work: of the daemon's own
/// all but who is in it, of those above what ends or holds everything below.
#[inline(always)]
fn is_control_sealed(dentry: Typed) -> bool {
    let bits = bits(dentry.follow(Field::DentryParent));
    if bits & own::CONTROLS == 0 {
        return false;
    }
    // What cannot be read is taken for the worst.
    let Ok(front) = dentry.follow(Field::DentryName).raw().load::<u64>() else { return true };
    let name = (front, dentry.get::<u32>(Field::DentryNameLen));
    let is = |front: &[u8; 8], len: u32| name == (u64::from_ne_bytes(*front), len);
    if bits & own::HOME != 0 {
        return !is(b"cgroup.p", 12) && !is(b"cgroup.t", 14);
    }
    is(b"cgroup.k", 11) || is(b"cgroup.f", 13)
}

/// Whether a mount leads to what is ours, or propagates to one that does.
#[inline(always)]
fn is_mount_sealed(mount: Raw) -> Result<bool, Fault> {
    let number = u64::from(mount.get::<u32>(Field::MountId)?);
    Ok(listed(OwnKind::Mount, 0, number) != 0 || is_group_sealed(mount)?)
}

#[inline(always)]
fn is_group_sealed(mount: Raw) -> Result<bool, Fault> {
    let group = u64::from(mount.get::<u32>(Field::MountGroup)?);
    Ok(group != 0 && listed(OwnKind::Group, 0, group) != 0)
}

/// Whether something that is mounted at this path would hide what is ours from the host.
#[inline(never)]
pub fn is_place_sealed(path: Typed) -> bool {
    let mount = path.follow(Field::PathMnt).raw().container(Field::MountVfs);
    is_sealed_in_or_leads_there(path.follow(Field::PathDentry)) && is_mount_sealed(mount).unwrap_or(true)
}

/// Whether the host's way to what is ours would be gone with this mount. In namespaces of its own everybody unmounts what it
/// likes, as long as that does not propagate.
#[inline(never)]
pub fn is_mount_held(mount: Typed) -> bool {
    try_is_mount_held(mount).unwrap_or(true)
}

#[inline(always)]
fn try_is_mount_held(mount: Typed) -> Result<bool, Fault> {
    let at = mount.raw().container(Field::MountVfs);
    let number = u64::from(at.get::<u32>(Field::MountId)?);
    if listed(OwnKind::Mount, 0, number) != 0 {
        return Ok(true);
    }
    let root = mount.follow(Field::VfsmountRoot);
    Ok((bits(root) & own::WAY != 0 || sealed_bits(root) != 0)
        && is_group_sealed(at.follow(Field::MountParent)?)?)
}

/// Whether the host may not have this descriptor of a map while sealed. Whoever runs the daemon's program may read; and if it
/// asks for the door, it is the daemon from then on.
#[inline(never)]
pub fn is_map_sealed(id: u32, mode: u32) -> bool {
    let bits = listed(OwnKind::Map, 0, u64::from(id));
    if bits == 0 {
        return false;
    }
    let task = kernel::current();
    if !subject::is_vouched(task) {
        return true;
    }
    if mode & FMODE_WRITE == 0 {
        return false;
    }
    if bits & own::DOOR == 0 || !subject::in_host_mount_namespace().unwrap_or(false) {
        return true;
    }
    register(task);
    false
}

/// Makes the process of a task the daemon.
#[inline(always)]
fn register(task: Typed) {
    let started = task.follow(Field::TaskGroupLeader).get::<u64>(Field::TaskStarted) / Keeper::TICK;
    let keeper = KEEPER.address();
    // SAFETY: a live map value; aligned stores. In this order nobody is the daemon meanwhile who is not.
    unsafe {
        (&raw mut (*keeper).process).write_volatile(0);
        (&raw mut (*keeper).credentials).write_volatile(0);
        (&raw mut (*keeper).started).write_volatile(started);
        (&raw mut (*keeper).process).write_volatile(task.get::<u32>(Field::TaskTgid));
    }
}

/// Whether a task may not be touched by the host while sealed: the daemon's, or who may become it.
#[inline(always)]
pub fn is_task_sealed(task: Typed) -> bool {
    is_keeper(task) || subject::is_vouched(task)
}

/// Whether a file is one that a successor of the daemon may map as code.
#[inline(never)]
pub fn is_code(file: Typed) -> bool {
    let inode = file.follow(Field::FileInode);
    inode_bits(inode) & (own::CODE | own::PROGRAM) != 0
}

/// Whether a file is the daemon's program.
#[inline(always)]
pub fn is_program(file: Typed) -> bool {
    inode_bits(file.follow(Field::FileInode)) & own::PROGRAM != 0
}

#[inline(always)]
fn inode_bits(inode: Typed) -> u32 {
    listed_inode(inode.follow(Field::InodeSb).get(Field::SbDevice), inode.get(Field::InodeNumber))
}
