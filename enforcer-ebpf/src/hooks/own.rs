//! What is the enforcer's own, where policies have no say: see [`crate::own`].
//!
//! Names are guarded at the hooks on inodes, which see more than those on paths, where policies decide: what overlayfs
//! does to its layers on behalf of whoever mounted it.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::{Counter, OwnKind},
    decide::Request,
    field::Field,
    hook::{Hook, Privilege},
    rights::Rights,
    verdict::Family,
};

use super::pointer;
use crate::{
    control::{About, PASS, Point, refused},
    kernel::Typed,
    own,
    tables::count,
};

/// (Oldest kernel: 5.7, like all on inodes here.)
#[lsm(hook = "inode_create")]
pub fn inode_create(ctx: LsmContext) -> i32 {
    entry(Hook::InodeCreate, || pointer(&ctx, 1), Rights::CREATE)
}

#[lsm(hook = "inode_mkdir")]
pub fn inode_mkdir(ctx: LsmContext) -> i32 {
    entry(Hook::InodeMkdir, || pointer(&ctx, 1), Rights::CREATE)
}

#[lsm(hook = "inode_mknod")]
pub fn inode_mknod(ctx: LsmContext) -> i32 {
    entry(Hook::InodeMknod, || pointer(&ctx, 1), Rights::CREATE)
}

#[lsm(hook = "inode_symlink")]
pub fn inode_symlink(ctx: LsmContext) -> i32 {
    entry(Hook::InodeSymlink, || pointer(&ctx, 1), Rights::CREATE)
}

/// Both names: a file of ours with another name elsewhere would be anybody's.
#[lsm(hook = "inode_link")]
pub fn inode_link(ctx: LsmContext) -> i32 {
    both(Hook::InodeLink, || (pointer(&ctx, 0), pointer(&ctx, 2)))
}

#[lsm(hook = "inode_unlink")]
pub fn inode_unlink(ctx: LsmContext) -> i32 {
    entry(Hook::InodeUnlink, || pointer(&ctx, 1), Rights::WRITE)
}

#[lsm(hook = "inode_rmdir")]
pub fn inode_rmdir(ctx: LsmContext) -> i32 {
    entry(Hook::InodeRmdir, || pointer(&ctx, 1), Rights::WRITE)
}

#[lsm(hook = "inode_rename")]
pub fn inode_rename(ctx: LsmContext) -> i32 {
    both(Hook::InodeRename, || (pointer(&ctx, 1), pointer(&ctx, 3)))
}

/// Takes the dentry as a closure, so that every hook has a copy of its own: one that they shared would be a call, and its
/// frame one too many.
#[inline(always)]
fn entry(hook: Hook, dentry: impl FnOnce() -> Typed, needed: Rights) -> i32 {
    let point = Point::new(hook, Family::File).owned(true);
    let dentry = dentry();
    let is_sealed_in = || own::is_sealed_in_or_leads_there(dentry);
    point.judge_own(is_sealed_in, About::file(needed), |subject| {
        if own::holds_or_leads_to(dentry) { point.decide_dentry(subject, dentry, needed) } else { PASS }
    })
}

#[inline(always)]
fn both(hook: Hook, names: impl FnOnce() -> (Typed, Typed)) -> i32 {
    let point = Point::new(hook, Family::File).owned(true);
    let needed = Rights::WRITE.union(Rights::CREATE);
    let (old, new) = names();
    let is_sealed_in = || own::is_sealed_in_or_leads_there(old) || own::is_sealed_in_or_leads_there(new);
    point.judge_own(is_sealed_in, About::file(needed), |subject| {
        if own::holds_or_leads_to(old) {
            return point.decide_dentry(subject, old, needed);
        }
        if own::holds_or_leads_to(new) { point.decide_dentry(subject, new, needed) } else { PASS }
    })
}

/// However the descriptor is asked for: by id, by pin. (Oldest kernel: 5.7.)
#[lsm(hook = "bpf_map")]
pub fn bpf_map(ctx: LsmContext) -> i32 {
    let id = || pointer(&ctx, 0).get::<u32>(Field::BpfMapId);
    object(Hook::BpfMap, OwnKind::Map, id, || own::is_map_sealed(id(), ctx.arg::<u32>(1)))
}

/// (Oldest kernel: 5.7.)
#[lsm(hook = "bpf_prog")]
pub fn bpf_prog(ctx: LsmContext) -> i32 {
    let id = || pointer(&ctx, 0).follow(Field::BpfProgAux).get::<u32>(Field::BpfProgAuxId);
    object(Hook::BpfProg, OwnKind::Program, id, || own::is_object(OwnKind::Program, id()))
}

#[inline(always)]
fn object(hook: Hook, kind: OwnKind, id: impl FnOnce() -> u32, is_sealed_in: impl FnOnce() -> bool) -> i32 {
    let point = Point::new(hook, Family::Privilege).owned(true);
    point.judge_own(is_sealed_in, About::door(Privilege::Bpf), |subject| {
        if own::is_object(kind, id()) {
            return point.decide(subject, &Request::Privilege(Privilege::Bpf));
        }
        // Whether it may use `bpf(2)` at all was decided at its start.
        PASS
    })
}

/// A descriptor that would signal the daemon, which asks for no such signals. Whoever set that up is not the current task,
/// which may be anybody, or nobody in an interrupt; so there is no event, only a count. (Oldest kernel: 5.7.)
#[lsm(hook = "file_send_sigiotask")]
pub fn file_send_sigiotask(ctx: LsmContext) -> i32 {
    if own::is_keeper(pointer(&ctx, 0)) {
        count(Counter::Denied);
        return refused();
    }
    PASS
}
