//! Names of objects: the path of a file from the root of the task's mount namespace, or other text, in scratch memory.
//!
//! Paths are walked dentry by dentry and mount by mount, not taken from `bpf_d_path`: that helper stops at the task's
//! root, which `chroot` moves, and exists on some hooks only. The walk stops at the root of the mount tree, so a
//! container sees its own paths and a chroot changes nothing.
//!
//! Scratch memory is task storage. Per-CPU memory would be shared with whoever preempts the program: measured corrupt
//! on 6.18 and 7.3 with their default preemption, and on 6.1 and 6.12 with `preempt=full`.

use core::{ops::ControlFlow, ptr::NonNull};

use enforcer_common::{
    abi::{Digest, NAME_MAX, PATH_MAX},
    decide::{Step, Text},
    environment,
    event::{EXE_MAX, EventHeader, HEADER_LEN},
    field::Field,
    verdict::{Fault, Reason},
};

use crate::{
    cache::Allowed,
    kernel::{self, Raw, Typed, VerityDigest},
    maps::SCRATCH,
    tables::repeat,
};

/// Room for one component beyond the end, so that the verifier need not relate a name's start to its length.
const SLACK: usize = NAME_MAX as usize + 1;
/// Lowest place of the event header. The exe path is written downwards below the object's name, and the header below
/// that, so that the record is contiguous without copying.
const HEADER_ROOM: usize = HEADER_LEN as usize;
/// Where texts that are copied forwards start, and the lowest place of a path's first byte.
const TEXT_START: usize = HEADER_ROOM + EXE_MAX as usize + SLACK;
/// One past the last byte of a path. Paths are assembled backwards from here.
const TEXT_END: usize = TEXT_START + SLACK + PATH_MAX as usize;
/// All scratch bytes.
const TEXT_LEN: usize = TEXT_END + SLACK;
/// A path of `PATH_MAX` bytes has at most half as many components; the rest is for mounts on the way, and for walks
/// that were disturbed and start again. A short path has hundreds of tries.
const MAX_STEPS: u32 = PATH_MAX / 2 + 2048;
/// The same for a walk that searches the mounts of a file system first: a node has tens of thousands.
const MAX_SEARCH_STEPS: u32 = 1 << 17;

/// Components that are climbed without a helper for each step. Deeper names take the slow way.
const QUICK_STEPS: u32 = 16;

/// `PROC_SUPER_MAGIC`.
const PROC_MAGIC: u64 = 0x9fa0;

/// A task's scratch memory.
#[repr(C, align(8))]
pub struct Scratch {
    walk: Walk,
    /// How far a loop over a list has got.
    pub cursor: Cursor,
    /// How far a loop over a new program's arguments and environment has got.
    pub strings: Strings,
    kept: Span,
    root: RootMount,
    /// What is going to be remembered.
    pub allowed: Allowed,
    /// SHA-256 of a pinned program.
    pub digest: Digest,
    /// fs-verity digest of a pinned program.
    pub verity: VerityDigest,
    text: [u8; TEXT_LEN],
}

/// A part of kernel memory that is gone through piece by piece. In a map value like [`Walk`], for the same reason.
#[repr(C)]
pub struct Cursor {
    pub at: u64,
    pub end: u64,
}

/// The strings on a new program's stack, which are gone through piece by piece: arguments, and behind them the environment. In
/// a map value like [`Walk`], for the same reason.
#[repr(C)]
pub struct Strings {
    /// The next piece.
    pub at: u64,
    /// How many arguments there are.
    pub count: u32,
    /// Arguments that have not ended yet.
    pub arguments: u32,
    /// Variables that have not ended yet.
    pub variables: u32,
    /// Length of the last piece, or of what is to be reported of it.
    pub len: u32,
    /// Non-zero if the next piece belongs to a variable that has begun before it.
    pub is_inside: u32,
    pub reserved: u32,
}

impl Strings {
    /// Whether they are those that were noted: scratch memory sticks to the task as its label does, and what is looked up
    /// anew may be new on kernels that forget (`enforcer_common::maps::LOSES_LABELS`). No strings are where a new stack never is.
    #[inline(always)]
    pub const fn check(&self) -> Result<(), Fault> {
        if self.at == 0 { Err(Fault::Scratch) } else { Ok(()) }
    }

    /// Goes past a piece of an argument.
    #[inline(always)]
    pub const fn pass(&mut self, len: u32) {
        self.len = len;
        self.at += len as u64;
        if len < PIECE_MAX {
            self.at += 1;
            self.arguments = self.arguments.wrapping_sub(1);
        }
    }

    /// Goes past a piece of a variable.
    #[inline(always)]
    pub const fn pass_variable(&mut self, len: u32) {
        self.at += len as u64;
        self.is_inside = 1;
        if len < PIECE_MAX {
            self.at += 1;
            self.is_inside = 0;
            self.variables = self.variables.wrapping_sub(1);
        }
    }
}

/// State of a walk. In a map value, so that the verifier assumes nothing about it from one round to the next.
#[repr(C)]
struct Walk {
    /// Where the walk starts. The mount is 0 where it has to be searched for.
    first_dentry: u64,
    first_mount: u64,
    /// Where the text starts to grow down from.
    first_cursor: u64,
    floor: u64,
    /// Whether a missing hash entry means nothing ([`PENDING`]), and whether the host's own tree will do ([`ON_HOST`]). One
    /// word: the stacks of the programs are full.
    leniency: u64,
    /// `struct pid *` of the task's process if the object lies on procfs, else 0.
    own_pid: u64,
    /// Sequence of the tree's locks at the start.
    sequence: u64,
    phase: u64,
    dentry: u64,
    mount: u64,
    /// While searching: the link of the mount that is looked at.
    link: u64,
    cursor: u64,
    status: u64,
    /// Where the name started at the root of the first mount, and the sequence that holds for; 0 if it is not known.
    ascended_cursor: u64,
    ascended_sequence: u64,
}

/// A mount from whose root no component is left to the root of the task's mount namespace.
///
/// True as long as nobody mounted anything since: whoever mounts, unmounts or moves a mount takes `mount_lock`, so the
/// same count means the same tree, and mounts and namespaces that have not been freed. (The count has 32 bits. It would
/// take 2^31 changes of mounts, and the root mount's memory used for another by then, to come around.)
#[derive(PartialEq, Eq)]
#[repr(C)]
struct RootMount {
    mount: u64,
    namespace: u64,
    /// Sequence of `mount_lock`.
    sequence: u64,
}

/// The object is about to get its name.
const PENDING: u64 = 1;
/// Somebody on the host may have opened it.
const ON_HOST: u64 = 2;

/// Phases: read the locks, find a mount, climb, read the locks again.
const BEGIN: u64 = 0;
const SEARCH: u64 = 1;
const CLIMB: u64 = 2;
const END: u64 = 3;

/// Not finished within the rounds there are.
const WALKING: u64 = 0;
/// At the root of the task's mount namespace.
const AT_ROOT: u64 = 1;
const TOO_LONG: u64 = 2;
/// At a root, but of another tree.
const ELSEWHERE: u64 = 3;
const BROKEN: u64 = 4;
/// The name is gone.
const UNLINKED: u64 = 5;
/// No mount of the task's namespace leads to the dentry.
const NO_MOUNT: u64 = 6;

/// The current task's scratch memory, exclusively: hooks of one task do not nest.
#[inline(always)]
pub fn scratch() -> Result<&'static mut Scratch, Fault> {
    kernel::task_storage(&SCRATCH, kernel::current(), true).ok_or(Fault::Scratch)
}

/// A text in scratch memory.
///
/// Never null, so that no name is a null pointer and not a number beside it, see [`kernel::untold`].
#[derive(Clone, Copy)]
pub struct Name {
    scratch: NonNull<Scratch>,
    start: u32,
    len: u32,
}

impl Text for Name {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.len
    }

    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        // In 64 bits, as the machine computes.
        let skipped = u64::from(index) * 8;
        let at = u64::from(self.start) + skipped;
        if at > (TEXT_LEN - 8) as u64 {
            return None;
        }
        // SAFETY: eight bytes at `at` lie within `text`, just checked.
        let word = unsafe {
            kernel::load_unaligned((&raw const (*self.scratch.as_ptr()).text).cast::<u8>().add(at as usize))
        };
        // Bytes past the end are left over from longer names.
        let left = u64::from(self.len).saturating_sub(skipped);
        Some(if left >= 8 { word } else { word & !(u64::MAX << (left * 8)) })
    }

    #[inline(always)]
    fn tail(&self) -> Option<u64> {
        // Every text starts behind the header.
        let at = kernel::opaque(u64::from(self.start) + u64::from(self.len)).wrapping_sub(8);
        if at > (TEXT_LEN - 8) as u64 {
            return None;
        }
        // SAFETY: as in `word`.
        let tail = unsafe {
            kernel::load_unaligned((&raw const (*self.scratch.as_ptr()).text).cast::<u8>().add(at as usize))
        };
        Some(if self.len >= 8 { tail } else { tail & !(u64::MAX >> (self.len * 8)) })
    }

    #[inline(always)]
    fn first(&self, len: u32) -> Self {
        Self { len: self.len.min(len), ..*self }
    }
}

impl Name {
    /// One byte; 0 past the end.
    #[inline(always)]
    pub fn byte(&self, index: u32) -> u8 {
        let at = kernel::opaque(u64::from(self.start) + u64::from(index));
        if index >= self.len || at >= TEXT_LEN as u64 {
            return 0;
        }
        // SAFETY: `at` lies within `text`, just checked.
        unsafe { (&raw const (*self.scratch.as_ptr()).text).cast::<u8>().add(at as usize).read_volatile() }
    }

    /// Where the text starts in the scratch memory.
    #[inline(always)]
    pub const fn start(&self) -> u32 {
        self.start
    }

    /// The last `len` bytes.
    #[inline(always)]
    pub const fn last(self, len: u32) -> Self {
        let cut = self.len.saturating_sub(len);
        Self { start: self.start + cut, len: self.len - cut, ..self }
    }

    /// What follows the last slash.
    #[inline(always)]
    pub fn last_component(self) -> Self {
        let mut pass = LastSlash { name: self, after: 0 };
        repeat(self.len, &mut pass);
        self.last(self.len.saturating_sub(pass.after))
    }

    /// An empty text.
    #[inline(always)]
    pub const fn empty(scratch: &Scratch) -> Self {
        Span::path(TEXT_START as u32, 0).name(scratch)
    }
}

struct LastSlash {
    name: Name,
    after: u32,
}

impl Step for LastSlash {
    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        if self.name.byte(index) == b'/' {
            self.after = index + 1;
        }
        ControlFlow::Continue(())
    }
}

/// What a text in scratch memory is, without the pointer to it: the verifier does not follow a pointer that shares a
/// register with the other variants of an enum.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Span {
    start: u32,
    len: u32,
    /// Code of the [`Reason`] why the text is no path from the task's root; 0 if it is one.
    why: u32,
}

impl Span {
    /// The text.
    #[inline(always)]
    pub const fn name(self, scratch: &Scratch) -> Name {
        Name { scratch: NonNull::from_ref(scratch), start: self.start, len: self.len }
    }

    /// Why no path from the task's root leads to the object.
    #[inline(always)]
    pub const fn unnamed(self) -> Option<Reason> {
        if self.why == 0 { None } else { Reason::from_code(self.why as u8) }
    }

    #[inline(always)]
    const fn path(start: u32, len: u32) -> Self {
        Self { start, len, why: 0 }
    }

    #[inline(always)]
    const fn because(self, why: Reason) -> Self {
        Self { why: why.code() as u32, ..self }
    }
}

/// A pointer into the kernel's tree of names, of either kind.
pub trait Pointer: Copy {
    /// As a number.
    fn raw(self) -> Raw;

    /// The magic number of the file system that a dentry lies on.
    fn magic(self) -> Result<u64, Fault>;

    /// Climbs to the root of the mount, where the verifier knows the way.
    fn ascend(mount: Self, dentry: Self, scratch: &mut Scratch);
}

impl Pointer for Typed {
    #[inline(always)]
    fn raw(self) -> Raw {
        Self::raw(self)
    }

    #[inline(always)]
    fn magic(self) -> Result<u64, Fault> {
        Ok(self.follow(Field::DentrySb).get(Field::SbMagic))
    }

    #[inline(always)]
    fn ascend(mount: Self, dentry: Self, scratch: &mut Scratch) {
        ascend(mount, dentry, scratch);
    }
}

impl Pointer for Raw {
    #[inline(always)]
    fn raw(self) -> Raw {
        self
    }

    #[inline(always)]
    fn magic(self) -> Result<u64, Fault> {
        self.follow(Field::DentrySb)?.get(Field::SbMagic)
    }

    #[inline(always)]
    fn ascend(_: Self, _: Self, _: &mut Scratch) {}
}

/// A place in the file system: `struct path`.
#[derive(Clone, Copy)]
pub struct Place<P = Typed> {
    pub mnt: P,
    pub dentry: P,
}

impl Place {
    /// Where an open file lies.
    #[inline(always)]
    pub fn of_file(file: Typed) -> Self {
        Self { mnt: file.follow(Field::FileMnt), dentry: file.follow(Field::FileDentry) }
    }

    /// A `struct path`.
    #[inline(always)]
    pub fn of_path(path: Typed) -> Self {
        Self { mnt: path.follow(Field::PathMnt), dentry: path.follow(Field::PathDentry) }
    }

    /// A directory entry below the directory that `path` is.
    #[inline(always)]
    pub fn of_entry(path: Typed, dentry: Typed) -> Self {
        Self { mnt: path.follow(Field::PathMnt), dentry }
    }
}

impl Place<Raw> {
    /// Where a file lies to which the verifier does not know the way.
    #[inline(always)]
    pub fn of_raw_file(file: Raw) -> Result<Self, Fault> {
        Ok(Self { mnt: file.follow(Field::FileMnt)?, dentry: file.follow(Field::FileDentry)? })
    }

    /// A `struct path` somewhere in memory.
    #[inline(always)]
    pub fn of_raw_path(path: Raw) -> Result<Self, Fault> {
        Ok(Self { mnt: path.follow(Field::PathMnt)?, dentry: path.follow(Field::PathDentry)? })
    }
}

/// Names the object at `place`. `pending` says that it is about to get its name (creation, `O_TMPFILE`), so a missing
/// hash entry means nothing.
#[inline(always)]
pub fn of_place<P: Pointer>(place: Place<P>, pending: bool, scratch: &mut Scratch) -> Result<Span, Fault> {
    begin(place, TEXT_END as u32, TEXT_START as u32, pending, scratch)?;
    P::ascend(place.mnt, place.dentry, scratch);
    if scratch.walk.phase != END {
        repeat(MAX_STEPS, &mut Climb::<false> { scratch });
        scratch.remember_root();
    }
    named(place.dentry.raw(), scratch)
}

/// Climbs from a dentry to its mount's root by plain loads, and to the end of the walk if the mount is known to be the
/// namespace's root. Leaves the walk where it has come to, or, when anything is out of the ordinary (a name that is
/// gone, procfs, a deep path, a lock that is held), where it was: the walk itself knows what to do.
///
/// Out of line, for the stack and because every program would carry a copy.
#[inline(never)]
fn ascend(mnt: Typed, first: Typed, scratch: &mut Scratch) {
    // The verifier follows the branch on which `begin` found that there is no mount.
    if mnt.is_null() || scratch.walk.own_pid != 0 {
        return;
    }
    let Ok(sequence) = kernel::tree_sequence() else { return };
    if kernel::is_disturbed(sequence) {
        return;
    }
    if scratch.walk.leniency & PENDING == 0 && first.follow(Field::DentryHashPprev).is_null() {
        return;
    }
    let root = mnt.follow(Field::VfsmountRoot);
    let (mut dentry, mut cursor) = (first, TEXT_END as u64);
    for _ in 0..QUICK_STEPS {
        if dentry.as_ptr() == root.as_ptr() {
            break;
        }
        let parent = dentry.follow(Field::DentryParent);
        // Opaque, so that what is compared is what is copied.
        let len = kernel::opaque(u64::from(dentry.get::<u32>(Field::DentryNameLen)));
        let from = dentry.follow(Field::DentryName).raw();
        let start = kernel::opaque(cursor.wrapping_sub(len + 1));
        // A root has itself for a parent. A pointer that has gone stale reads as zero.
        if parent.is_null() || parent.as_ptr() == dentry.as_ptr() || len > u64::from(NAME_MAX) {
            return;
        }
        if start > (TEXT_END - 1) as u64 || start < TEXT_START as u64 {
            return;
        }
        // SAFETY: `start` and `SLACK` bytes after it lie within `text`, and `len` is at most `NAME_MAX`.
        let copied = unsafe {
            let at = (&raw mut scratch.text).cast::<u8>().add(start as usize);
            at.write(b'/');
            from.copy_to(at.add(1), len as u32 & 0xff)
        };
        if copied.is_err() {
            return;
        }
        cursor = start;
        dentry = parent;
    }
    if dentry.as_ptr() != root.as_ptr() {
        return;
    }
    let mount = mnt.raw().container(Field::MountVfs);
    scratch.walk.cursor = cursor;
    if cursor != TEXT_END as u64 && scratch.root == RootMount::of(mount, sequence) {
        // The names count if nobody renamed anything meanwhile, as for every walk.
        if kernel::tree_sequence() == Ok(sequence) {
            scratch.walk.sequence = sequence;
            scratch.walk.status = AT_ROOT;
            scratch.walk.phase = END;
        }
        return;
    }
    scratch.walk.sequence = sequence;
    scratch.walk.dentry = root.raw().0;
    scratch.walk.mount = mount.0;
    scratch.walk.ascended_cursor = cursor;
    scratch.walk.ascended_sequence = sequence;
    scratch.walk.phase = CLIMB;
}

impl RootMount {
    /// The mount, as the current task sees it under this sequence of the tree's locks.
    #[inline(always)]
    fn of(mount: Raw, sequence: u64) -> Self {
        let namespace = kernel::current().follow(Field::TaskNsproxy).follow(Field::NsproxyMnt).raw();
        Self { mount: mount.0, namespace: namespace.0, sequence: sequence & u64::from(u32::MAX) }
    }
}

/// Names an object that somebody on the host may have opened: as the task sees it, or as the host does.
#[inline(always)]
pub fn of_host_place(place: Place<Raw>, scratch: &mut Scratch) -> Result<Span, Fault> {
    begin(place, TEXT_END as u32, TEXT_START as u32, false, scratch)?;
    scratch.walk.leniency = ON_HOST;
    repeat(MAX_STEPS, &mut Climb::<false> { scratch });
    named(place.dentry, scratch)
}

/// Names an object of which the hook does not say by which mount it was reached: by the first mount of its file system
/// in the task's namespace that leads to it.
#[inline(always)]
pub fn of_dentry(dentry: Raw, scratch: &mut Scratch) -> Result<Span, Fault> {
    search(Place { mnt: Raw(0), dentry }, scratch)
}

/// Names the place that a socket is bound to. Services often have a mount namespace of their own, in which the mount by
/// which somebody else bound the socket is not; there the first mount that leads to it counts, as in [`of_dentry`].
#[inline(always)]
pub fn of_socket(place: Place<Raw>, scratch: &mut Scratch) -> Result<Span, Fault> {
    let mount = place.mnt.container(Field::MountVfs);
    let mnt = if mount.follow(Field::MountNs)? == own_namespace() { place.mnt } else { Raw(0) };
    search(Place { mnt, ..place }, scratch)
}

/// A walk that searches for a mount unless there is one to start from.
#[inline(always)]
fn search(place: Place<Raw>, scratch: &mut Scratch) -> Result<Span, Fault> {
    begin(place, TEXT_END as u32, TEXT_START as u32, false, scratch)?;
    repeat(MAX_SEARCH_STEPS, &mut Climb::<true> { scratch });
    named(place.dentry, scratch)
}

/// What a walk from `dentry` has found.
#[inline(always)]
fn named(dentry: Raw, scratch: &mut Scratch) -> Result<Span, Fault> {
    check_finished(scratch)?;
    let start = scratch.walk.cursor as u32;
    let path = Span::path(start, (TEXT_END as u32).saturating_sub(start));
    match scratch.walk.status {
        AT_ROOT => Ok(path),
        // One byte more than any rule can name, so that the decision is `PathTooLong`.
        TOO_LONG => Ok(Span::path(start, PATH_MAX + 1)),
        UNLINKED => Ok(of_dentry_alone(dentry, scratch)?.because(Reason::Unlinked)),
        NO_MOUNT => Ok(of_dentry_alone(dentry, scratch)?.because(Reason::Unreachable)),
        _ => Ok(path.because(Reason::Unreachable)),
    }
}

/// Writes the path of `place` below `before` (a place in the text), leaf first, and returns its start and whether its
/// front did not fit.
#[inline(always)]
pub fn prepend_exe(place: Place<Raw>, before: u32, scratch: &mut Scratch) -> Result<(u32, bool), Fault> {
    begin(place, before, before.saturating_sub(EXE_MAX), true, scratch)?;
    repeat(MAX_STEPS, &mut Climb::<false> { scratch });
    check_finished(scratch)?;
    let whole = scratch.walk.status == AT_ROOT || scratch.walk.status == ELSEWHERE;
    Ok((scratch.walk.cursor as u32, !whole))
}

/// Prepares a walk from `place` to a root, which is done again and again until nobody renamed or mounted anything
/// meanwhile: a walk that sees one component before and another after a rename would compose a name that never was.
#[inline(always)]
fn begin<P: Pointer>(
    place: Place<P>,
    cursor: u32,
    floor: u32,
    pending: bool,
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    scratch.walk.first_cursor = u64::from(cursor);
    scratch.walk.floor = u64::from(floor);
    scratch.walk.leniency = u64::from(pending);
    scratch.walk.ascended_cursor = 0;
    scratch.walk.own_pid = 0;
    if place.dentry.magic()? == PROC_MAGIC {
        let leader = kernel::current().follow(Field::TaskGroupLeader);
        scratch.walk.own_pid = leader.raw().follow(Field::TaskThreadPid)?.0;
    }
    scratch.walk.first_dentry = place.dentry.raw().0;
    let mnt = place.mnt.raw();
    scratch.walk.first_mount = if mnt.is_null() { 0 } else { mnt.container(Field::MountVfs).0 };
    scratch.walk.phase = BEGIN;
    scratch.walk.status = WALKING;
    Ok(())
}

#[inline(always)]
const fn check_finished(scratch: &Scratch) -> Result<(), Fault> {
    if scratch.walk.status == WALKING || scratch.walk.status == BROKEN || scratch.walk.phase != END {
        return Err(Fault::Walk);
    }
    Ok(())
}

/// The loop body. `bpf_loop` takes a stack pointer as its context, so the scratch memory goes in by reference.
/// Only some programs search for a mount, and the others' stack is short.
struct Climb<'a, const SEARCHES: bool> {
    scratch: &'a mut Scratch,
}

impl<const SEARCHES: bool> Step for Climb<'_, SEARCHES> {
    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        match self.scratch.round::<SEARCHES>() {
            Ok(flow) => flow,
            // What could not be read may have been freed by whoever disturbed the walk, but so may what was: no name
            // is better than a wrong one.
            Err(_) => {
                self.scratch.walk.status = BROKEN;
                ControlFlow::Break(())
            }
        }
    }
}

impl Scratch {
    #[inline(always)]
    fn round<const SEARCHES: bool>(&mut self) -> Result<ControlFlow<()>, Fault> {
        match self.walk.phase {
            BEGIN => self.begin::<SEARCHES>(),
            SEARCH if SEARCHES => self.search(),
            CLIMB => self.up(),
            _ => self.end(),
        }
    }

    /// The climb is over; whether its result counts, the locks tell.
    #[inline(always)]
    fn stop(&mut self, status: u64) -> ControlFlow<()> {
        self.walk.status = status;
        self.walk.phase = END;
        ControlFlow::Continue(())
    }

    #[inline(always)]
    fn begin<const SEARCHES: bool>(&mut self) -> Result<ControlFlow<()>, Fault> {
        let sequence = kernel::tree_sequence()?;
        if kernel::is_disturbed(sequence) {
            return Ok(ControlFlow::Continue(()));
        }
        self.walk.sequence = sequence;
        self.walk.cursor = self.walk.first_cursor;
        self.walk.dentry = self.walk.first_dentry;
        self.walk.mount = self.walk.first_mount;
        let dentry = Raw(self.walk.dentry);
        if self.walk.leniency & PENDING == 0 && self.is_unlinked::<SEARCHES>(dentry)? {
            return Ok(self.stop(UNLINKED));
        }
        self.walk.phase = CLIMB;
        if SEARCHES && self.walk.mount == 0 {
            self.walk.link = dentry.follow(Field::DentrySb)?.follow(Field::SbMounts)?.0;
            self.walk.phase = SEARCH;
        }
        Ok(ControlFlow::Continue(()))
    }

    #[inline(always)]
    fn end(&mut self) -> Result<ControlFlow<()>, Fault> {
        if kernel::tree_sequence()? == self.walk.sequence {
            return Ok(ControlFlow::Break(()));
        }
        self.walk.status = WALKING;
        self.walk.phase = BEGIN;
        Ok(ControlFlow::Continue(()))
    }

    /// Whether the name is gone: the dentry is not hashed, and it is no root that a mount makes reachable.
    #[inline(always)]
    fn is_unlinked<const SEARCHES: bool>(&self, dentry: Raw) -> Result<bool, Fault> {
        if !dentry.follow(Field::DentryHashPprev)?.is_null() {
            return Ok(false);
        }
        // Without a mount to go by, the root of the file system is the only such root that can be told.
        if SEARCHES && self.walk.mount == 0 {
            return Ok(dentry.follow(Field::DentrySb)?.follow(Field::SbRoot)? != dentry);
        }
        Ok(Raw(self.walk.mount).follow(Field::MountRoot)? != dentry)
    }

    /// One step of the search for a mount: compares an ancestor with the mount's root, or goes on to the next mount.
    #[inline(always)]
    fn search(&mut self) -> Result<ControlFlow<()>, Fault> {
        let first = Raw(self.walk.first_dentry);
        let listed = kernel::has(Field::MountInstance);
        let link = Raw(self.walk.link);
        let head = first.follow(Field::DentrySb)?.embedded(Field::SbMounts);
        if link.is_null() || (listed && link == head) {
            return Ok(self.stop(NO_MOUNT));
        }
        let mount = if listed { link.container(Field::MountInstance) } else { link };
        let dentry = Raw(self.walk.dentry);
        if mount.follow(Field::MountNs)? == own_namespace() {
            if mount.follow(Field::MountRoot)? == dentry {
                self.walk.dentry = first.0;
                self.walk.mount = mount.0;
                self.walk.phase = CLIMB;
                return Ok(ControlFlow::Continue(()));
            }
            let parent = dentry.follow(Field::DentryParent)?;
            if parent != dentry {
                self.walk.dentry = parent.0;
                return Ok(ControlFlow::Continue(()));
            }
        }
        self.walk.dentry = first.0;
        self.walk.link = if listed { link.load::<u64>()? } else { mount.follow(Field::MountNextForSb)?.0 };
        Ok(ControlFlow::Continue(()))
    }

    /// One step towards the root: prepends a component, or crosses a mount.
    #[inline(always)]
    fn up(&mut self) -> Result<ControlFlow<()>, Fault> {
        let dentry = Raw(self.walk.dentry);
        let mount = Raw(self.walk.mount);
        let mount_root = mount.follow(Field::MountRoot)?;
        if dentry == mount_root {
            let parent = mount.follow(Field::MountParent)?;
            if parent == mount {
                return self.finish(mount);
            }
            self.walk.dentry = mount.follow(Field::MountMountpoint)?.0;
            self.walk.mount = parent.0;
            return Ok(ControlFlow::Continue(()));
        }
        let parent = dentry.follow(Field::DentryParent)?;
        if parent == dentry {
            return Ok(self.stop(ELSEWHERE));
        }
        let own = self.walk.own_pid != 0 && parent == mount_root && proc_pid(dentry)? == self.walk.own_pid;
        let flow = if own {
            let own_name = u32::from_le_bytes(*b"self");
            self.prepend_bytes(4, |to| {
                // SAFETY: `prepend_bytes` hands out a place with room for a whole component.
                unsafe { to.cast::<[u8; 4]>().write(own_name.to_le_bytes()) };
                Ok(())
            })?
        } else {
            let len = dentry.get::<u32>(Field::DentryNameLen)?;
            let from = dentry.follow(Field::DentryName)?;
            self.prepend_bytes(len, |to| {
                // SAFETY: as above; `len` was checked against `NAME_MAX`.
                unsafe { from.copy_to(to, len & 0xff) }
            })?
        };
        self.walk.dentry = parent.0;
        Ok(flow)
    }

    /// Makes room for `/` and `len` bytes before the cursor and lets `write` fill them.
    #[inline(always)]
    fn prepend_bytes(
        &mut self,
        len: u32,
        write: impl FnOnce(*mut u8) -> Result<(), Fault>,
    ) -> Result<ControlFlow<()>, Fault> {
        // A rename between reading the length and the name; the locks tell.
        if len > NAME_MAX {
            return Ok(self.stop(ELSEWHERE));
        }
        let start = self.walk.cursor.wrapping_sub(u64::from(len) + 1);
        // The floor never lies below the header, and a wrapped start never below the end.
        if start < self.walk.floor || start > (TEXT_END - 1) as u64 || start < HEADER_ROOM as u64 {
            return Ok(self.stop(TOO_LONG));
        }
        // SAFETY: `start` and `SLACK` bytes after it lie within `text`.
        unsafe {
            let at = (&raw mut self.text).cast::<u8>().add(start as usize);
            at.write(b'/');
            write(at.add(1))?;
        }
        self.walk.cursor = start;
        Ok(ControlFlow::Continue(()))
    }

    /// At the root of a mount tree. A walk that found no component is the root itself.
    #[inline(always)]
    fn finish(&mut self, mount: Raw) -> Result<ControlFlow<()>, Fault> {
        if self.walk.cursor == TEXT_END as u64 {
            self.walk.cursor = TEXT_END as u64 - 1;
            self.text[TEXT_END - 1] = b'/';
        }
        let namespace = mount.follow(Field::MountNs)?;
        let reachable =
            namespace == own_namespace() || (self.walk.leniency & ON_HOST != 0 && is_host(namespace));
        Ok(self.stop(if reachable { AT_ROOT } else { ELSEWHERE }))
    }

    /// Remembers the first mount if the walk has found no component between its root and the namespace's. Only the tree
    /// of mounts has a say in that, so it holds however the names below are changed.
    #[inline(always)]
    fn remember_root(&mut self) {
        let walk = &self.walk;
        if walk.status == AT_ROOT
            && walk.cursor == walk.ascended_cursor
            && walk.sequence == walk.ascended_sequence
            && walk.cursor < (TEXT_END - 1) as u64
        {
            self.root = RootMount::of(Raw(walk.first_mount), walk.sequence);
        }
    }

    /// Sequence of the tree's locks under which the last name was found.
    #[inline(always)]
    pub const fn sequence(&self) -> u64 {
        self.walk.sequence
    }

    /// Remembers a text for another program on the same hook.
    #[inline(always)]
    pub const fn keep(&mut self, span: Span) {
        self.kept = span;
    }

    /// What was kept. The text is still there as long as the task has met no other hook.
    #[inline(always)]
    pub const fn kept(&self) -> Span {
        self.kept
    }

    /// Whether there is a byte of some text at this place.
    #[inline(always)]
    pub fn holds(&self, at: u32) -> bool {
        let at = kernel::opaque(u64::from(at));
        // SAFETY: `at` lies within `text`, just checked.
        at < TEXT_LEN as u64
            && unsafe { (&raw const self.text).cast::<u8>().add(at as usize).read_volatile() } != 0
    }

    /// The event header's place before `exe_start`, if there is room.
    #[inline(always)]
    pub fn header(&mut self, exe_start: u32) -> Option<*mut EventHeader> {
        let at = kernel::opaque(u64::from(exe_start).wrapping_sub(HEADER_ROOM as u64));
        if at > (TEXT_END - HEADER_ROOM) as u64 {
            return None;
        }
        // SAFETY: `HEADER_ROOM` bytes from `at` lie within `text`.
        Some(unsafe { (&raw mut self.text).cast::<u8>().add(at as usize).cast() })
    }
}

/// Whether this is the host's mount namespace. Some mounts have an error number for a namespace.
#[inline(always)]
fn is_host(namespace: Raw) -> bool {
    namespace.get::<u32>(Field::MntNamespaceInum).is_ok_and(|inum| inum == kernel::host_mnt_ns())
}

/// The current task's mount namespace.
#[inline(always)]
pub fn own_namespace() -> Raw {
    kernel::current().follow(Field::TaskNsproxy).follow(Field::NsproxyMnt).raw()
}

#[inline(always)]
fn proc_pid(dentry: Raw) -> Result<u64, Fault> {
    let inode = dentry.follow(Field::DentryInode)?;
    if inode.is_null() {
        return Ok(0);
    }
    Ok(inode.container(Field::ProcInodeVfs).follow(Field::ProcInodePid)?.0)
}

/// The name of a dentry alone.
#[inline(always)]
pub fn of_dentry_alone(dentry: Raw, scratch: &mut Scratch) -> Result<Span, Fault> {
    let from = dentry.follow(Field::DentryName)?;
    forward(scratch, from, SLACK as u32)
}

/// A NUL-terminated string from kernel memory.
#[inline(always)]
pub fn of_string(from: Raw, scratch: &mut Scratch) -> Result<Span, Fault> {
    forward(scratch, from, PATH_MAX)
}

/// A NUL-terminated string from the current task's memory.
#[inline(always)]
pub fn of_user_string(from: u64, scratch: &mut Scratch) -> Result<Span, Fault> {
    // SAFETY: `PATH_MAX` bytes fit after `TEXT_START`.
    let len = unsafe {
        kernel::copy_user_str(from, (&raw mut scratch.text).cast::<u8>().add(TEXT_START), PATH_MAX)?
    };
    Ok(Span::path(TEXT_START as u32, len))
}

/// Longest piece of a string that is read at once.
pub const PIECE_MAX: u32 = PATH_MAX - 1;

/// The next piece of a NUL-terminated string from the current task's memory, behind the sign of a variable. A piece that
/// is shorter than [`PIECE_MAX`] is the last.
#[inline(always)]
pub fn of_user_variable(from: u64, scratch: &mut Scratch) -> Result<Span, Fault> {
    scratch.text[TEXT_START] = environment::SIGN;
    // SAFETY: `PATH_MAX` bytes and one fit after `TEXT_START`.
    let len = unsafe {
        kernel::copy_user_str(from, (&raw mut scratch.text).cast::<u8>().add(TEXT_START + 1), PATH_MAX)?
    };
    Ok(Span::path(TEXT_START as u32, len + 1))
}

/// The text of `len` bytes that was copied forwards last.
#[inline(always)]
pub const fn forward_text(scratch: &Scratch, len: u32) -> Name {
    Span::path(TEXT_START as u32, len).name(scratch)
}

/// The text `-`, by which programs mean standard input.
#[inline(always)]
pub fn dash(scratch: &mut Scratch) -> Name {
    scratch.text[TEXT_START] = b'-';
    forward_text(scratch, 1)
}

#[inline(always)]
fn forward(scratch: &mut Scratch, from: Raw, room: u32) -> Result<Span, Fault> {
    // SAFETY: `room` is at most `PATH_MAX`, which fits after `TEXT_START`.
    let len = unsafe { from.copy_str_to((&raw mut scratch.text).cast::<u8>().add(TEXT_START), room)? };
    Ok(Span::path(TEXT_START as u32, len))
}

/// An abstract unix socket's name: `@` and then the bytes, which may contain NULs.
#[inline(always)]
pub fn of_abstract(from: Raw, len: u32, scratch: &mut Scratch) -> Result<Span, Fault> {
    let len = kernel::opaque(u64::from(len));
    if len > MAX_ABSTRACT {
        return Err(Fault::KernelRead);
    }
    // SAFETY: `MAX_ABSTRACT` bytes and one fit after `TEXT_START`.
    unsafe {
        let at = (&raw mut scratch.text).cast::<u8>().add(TEXT_START);
        at.write(b'@');
        from.copy_to(at.add(1), len as u32)?;
    }
    Ok(Span::path(TEXT_START as u32, len as u32 + 1))
}

/// Bytes of `sun_path` after the leading NUL.
const MAX_ABSTRACT: u64 = 107;
