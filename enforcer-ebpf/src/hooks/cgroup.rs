//! Cgroups and births: how a policy reaches a task.
//!
//! A cgroup is bound at `mkdir`, before it is visible to user space, so nothing ever runs in it unbound: there is no
//! start race to lose.

use aya_ebpf::{
    macros::{btf_tracepoint, lsm},
    programs::{BtfTracePointContext, LsmContext},
};
use aya_log_ebpf::error;
use enforcer_common::{
    abi::{Binding, Counter, Origin, SELECTS, SELECTS_BASE, SLOT_SELECTORS},
    decide,
    field::Field,
    verdict::Fault,
};

use super::{pointer, traced};
use crate::{
    control::{PASS, refused_blindly},
    kernel::{Raw, Typed},
    maps::{ATTACHES, BINDINGS},
    name,
    subject::{self, id_of, live_binding},
    tables::{Maps, atomic_add_u32, count},
};

/// Gives the child its parent's label, or refuses the fork. (Oldest kernel: 5.7.)
#[lsm(hook = "task_alloc")]
pub fn task_alloc(ctx: LsmContext) -> i32 {
    match subject::inherit(pointer(&ctx, 0)) {
        Ok(()) => PASS,
        Err(_) => refused_blindly(),
    }
}

/// Forgets what was kept of a task that is gone. (Oldest kernel: 5.7; attached where labels are kept.)
#[lsm(hook = "task_free")]
pub fn task_free(ctx: LsmContext) -> i32 {
    subject::forget(pointer(&ctx, 0));
    PASS
}

/// Binds a new cgroup: inside a container that was admitted, to the container's policy; made by a task under a policy, to
/// its parent's; else to the policy whose selector names it; else to its parent's.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) {
    let cgroup = traced(&ctx, 0).raw();
    let path = traced(&ctx, 1);
    match bind(cgroup, path) {
        Ok(bound) => {
            if bound {
                count(Counter::Bound);
            }
        }
        Err(fault) => {
            // Tasks still adopt the nearest bound ancestor's policy; what is lost is a selector of its own.
            count(Counter::BindFailed);
            error!(&ctx, "a new cgroup could not be bound: fault {}", fault.code());
        }
    }
}

#[inline(always)]
fn bind(cgroup: Raw, path: Typed) -> Result<bool, Fault> {
    if !is_unified(cgroup)? {
        return Ok(false);
    }
    let maps = Maps::in_force();
    let id = id_of(cgroup)?;
    let inherited = parent_binding(&maps, cgroup)?;
    let in_container = inherited.is_container();
    // A labelled task cannot choose another policy by choosing a name, not even for the time after the next installation.
    let by_workload = subject::is_armed();
    let selected = if in_container || by_workload { subject::UNBOUND } else { select(&maps, path)? };
    let mut binding = if selected.incarnation == 0 { inherited } else { selected };
    if binding.incarnation == 0 {
        return Ok(false);
    }
    if by_workload && !in_container {
        binding.origin = Origin::Workload.code();
    }
    BINDINGS.insert(id, binding, 0).map_err(|_| Fault::Binding)?;
    Ok(true)
}

/// The policy whose selector matches the path; incarnation 0 if there is none.
#[inline(always)]
fn select(maps: &Maps, path: Typed) -> Result<Binding, Fault> {
    let Some(selectors) = maps.head(SLOT_SELECTORS) else {
        return Ok(subject::UNBOUND);
    };
    let scratch = name::scratch()?;
    let name = name::of_string(path.raw(), scratch)?.name(scratch);
    let grant = decide::granted(&name, SELECTS, selectors, maps)?;
    if !grant.rights().contains(SELECTS) {
        return Ok(subject::UNBOUND);
    }
    let slot = grant.rule;
    let head = maps.head(slot).ok_or(Fault::Table)?;
    let origin = if grant.rights().contains(SELECTS_BASE) { Origin::Base } else { Origin::Selector };
    Ok(Binding { slot, incarnation: head.incarnation, origin: origin.code() })
}

/// The parent's binding; incarnation 0 if it has none.
#[inline(always)]
fn parent_binding(maps: &Maps, cgroup: Raw) -> Result<Binding, Fault> {
    let parent = cgroup.follow(Field::CgroupSelfParent)?;
    if parent.is_null() {
        return Ok(subject::UNBOUND);
    }
    let id = id_of(parent.follow(Field::CssCgroup)?)?;
    Ok(live_binding(maps, id).unwrap_or(subject::UNBOUND))
}

/// Ids of version 1 hierarchies come from another number space.
#[inline(always)]
fn is_unified(cgroup: Raw) -> Result<bool, Fault> {
    Ok(cgroup.follow(Field::CgroupRoot)?.get::<i32>(Field::CgroupRootHierarchy)? == 0)
}

/// Forgets a cgroup. Its id is never used again, so this only frees memory.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) {
    let cgroup = traced(&ctx, 0).raw();
    if matches!(is_unified(cgroup), Ok(true))
        && let Ok(id) = id_of(cgroup)
    {
        let _ = BINDINGS.remove(id);
    }
}

/// Makes host labels look again once a task was moved into a bound cgroup. The tracepoint names the leader only, so
/// the count voids all host labels rather than those of one thread group. `CLONE_INTO_CGROUP` does not come here, and
/// need not: the child has no label yet.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach_task(ctx: BtfTracePointContext) {
    let cgroup = traced(&ctx, 0).raw();
    if matches!(is_unified(cgroup), Ok(true)) {
        atomic_add_u32(ATTACHES.address(), 1);
    }
}
