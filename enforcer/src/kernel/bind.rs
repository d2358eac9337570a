//! Ties the cgroups that exist to the policies that are installed.
//!
//! New cgroups are bound by the programs as they are made. This is for those that were there before the policy, and
//! for policies that are gone. Inside a container that was admitted, a cgroup has the container's policy; one that a task
//! under a policy has made, its parent's; else it is bound to the policy whose selector matches its path, else to its
//! parent's; the same rule as in the kernel, decided by the same function over the same tables.
//!
//! A binding is replaced once in a grace period of RCU at most: programs that look it up meanwhile are disturbed once at most,
//! and know what to do about that (`bound_to` in the programs' `subject.rs`).
//!
//! Who made a cgroup, the programs note in its binding. Of one that was made while nothing above it was bound, it is not
//! known; there the path decides.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use enforcer_common::{
    abi::{
        Binding, ExactKey, Grant, Head, Origin, Pin, PinKey, PortRange, PortSpan, PrefixKey, SELECTS,
        SELECTS_BASE, SLOT_SELECTORS, arena_place,
    },
    decide::{Bytes, Step, Tables, granted},
    hash::Key,
    verdict::Fault,
};

use super::maps::{MapFault, Maps};
use crate::cgroups::Cgroup;

/// What [`rebind`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebound {
    /// Cgroups bound to another policy than before, or to one for the first time.
    pub bound: usize,
    /// Cgroups no longer bound.
    pub unbound: usize,
}

/// Cgroups that could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A map failed.
    #[error("cgroups could not be bound: {0}")]
    Map(#[from] MapFault),
    /// The selectors in force contradict themselves.
    #[error("the selectors in force cannot be read: {0}")]
    Selectors(Fault),
}

/// Makes the bindings those that the selectors in force ask for. `walk` lists the cgroups; it is called after the
/// bindings were read, so that a binding whose cgroup it does not list belongs to a cgroup that is gone, and not to
/// one that has just been made. Afterwards they are read again: the programs have bound whatever it lists by then, and
/// said by whom it was made.
///
/// # Errors
/// [`BindError`], or what `walk` fails with.
pub fn rebind<M: Maps, E: From<BindError>>(
    maps: &mut M,
    walk: impl FnOnce() -> Result<Vec<Cgroup>, E>,
) -> Result<Rebound, E> {
    let before = bindings(maps)?;
    let cgroups = walk()?;
    let now = bindings(maps)?;
    Ok(apply(maps, &before, &now, &cgroups)?)
}

fn bindings<M: Maps>(maps: &M) -> Result<BTreeMap<u64, Binding>, BindError> {
    Ok(maps.bindings()?.into_iter().collect())
}

fn apply<M: Maps>(
    maps: &mut M,
    before: &BTreeMap<u64, Binding>,
    now: &BTreeMap<u64, Binding>,
    cgroups: &[Cgroup],
) -> Result<Rebound, BindError> {
    let mut control = maps.control()?;
    let heads = maps.heads(control.generation)?;
    let wanted = wanted(maps, Key(control.hash_key), &heads, now, cgroups)?;
    let mut report = Rebound::default();
    let changed = || wanted.iter().filter(|(id, binding)| now.get(id) != Some(binding));
    let replaces = changed().any(|(id, _)| now.contains_key(id));
    if replaces {
        // What was replaced before, as when a container was admitted.
        maps.wait_for_programs()?;
    }
    for (id, binding) in changed() {
        maps.bind(*id, *binding)?;
        report.bound += 1;
    }
    if replaces {
        // For who replaces next.
        maps.wait_for_programs()?;
    }
    // Those already there that belong to no policy any more, or to no cgroup.
    let stale: BTreeSet<u64> = before.keys().copied().filter(|id| !wanted.contains_key(id)).collect();
    for id in stale {
        maps.unbind(id)?;
        report.unbound += 1;
    }
    if report != Rebound::default() {
        // Tasks that were found to be the host's look again.
        control.bind_epoch = control.bind_epoch.wrapping_add(1);
        maps.set_control(&control)?;
    }
    Ok(report)
}

/// Gives a cgroup that was just looked for its binding, if that is another than it has. `before` is what it has.
///
/// # Errors
/// [`MapFault`].
pub fn put<M: Maps>(
    maps: &mut M,
    cgroup: u64,
    before: Option<Binding>,
    binding: Binding,
) -> Result<(), MapFault> {
    if before == Some(binding) {
        return Ok(());
    }
    // Base policies bind once, and an installation waits when it is done. Whatever else a container has, it got from here.
    if before.is_some_and(|before| before.is_container()) {
        maps.wait_for_programs()?;
    }
    maps.bind(cgroup, binding)
}

/// The binding that each cgroup should have.
fn wanted<M: Maps>(
    maps: &M,
    key: Key,
    heads: &[Head],
    now: &BTreeMap<u64, Binding>,
    cgroups: &[Cgroup],
) -> Result<BTreeMap<u64, Binding>, BindError> {
    let Some(selectors) = head_of(heads, SLOT_SELECTORS) else { return Ok(BTreeMap::new()) };
    let is_container = |binding: &&Binding| binding.is_container();
    let is_workload_s = |binding: &&Binding| binding.origin == Origin::Workload.code();
    let is_live = |binding: &&Binding| {
        head_of(heads, binding.slot).is_some_and(|head| head.incarnation == binding.incarnation)
    };
    let tables = Reading { maps, key, fault: RefCell::new(None) };
    let mut by_index: Vec<Option<Binding>> = Vec::with_capacity(cgroups.len());
    for cgroup in cgroups {
        let inherited = cgroup.parent.and_then(|parent| by_index.get(parent).copied().flatten());
        // A container keeps the policy that it was admitted to as long as there is that policy.
        let kept = inherited.as_ref().filter(is_container);
        let kept = kept.or_else(|| now.get(&cgroup.id).filter(is_container).filter(is_live));
        if let Some(kept) = kept {
            by_index.push(Some(*kept));
            continue;
        }
        // Whoever made it chose its name, so the name says nothing.
        if now.get(&cgroup.id).filter(is_workload_s).is_some() {
            by_index.push(inherited.map(|above| Binding { origin: Origin::Workload.code(), ..above }));
            continue;
        }
        by_index.push(tables.selected(&cgroup.path, selectors, heads)?.or(inherited));
    }
    Ok(cgroups.iter().zip(by_index).filter_map(|(cgroup, binding)| Some((cgroup.id, binding?))).collect())
}

/// What the selectors in force say about a path itself, whatever is above it and whether or not there is such a cgroup.
///
/// # Errors
/// [`BindError`].
pub fn selected<M: Maps>(maps: &M, path: &[u8]) -> Result<Option<Binding>, BindError> {
    let control = maps.control()?;
    let heads = maps.heads(control.generation)?;
    let Some(selectors) = head_of(&heads, SLOT_SELECTORS) else { return Ok(None) };
    Reading { maps, key: Key(control.hash_key), fault: RefCell::new(None) }.selected(path, selectors, &heads)
}

/// The head of a slot, if the slot is taken.
fn head_of(heads: &[Head], slot: u32) -> Option<&Head> {
    heads.get(usize::try_from(slot).unwrap_or(usize::MAX)).filter(|head| head.incarnation != 0)
}

/// The installed tables, as the decision core wants them.
struct Reading<'a, M> {
    maps: &'a M,
    key: Key,
    /// The last look-up that failed. The core knows "not there" only.
    fault: RefCell<Option<MapFault>>,
}

impl<M> Reading<'_, M> {
    fn noted<T>(&self, result: Result<T, MapFault>) -> Option<T> {
        result.map_err(|fault| *self.fault.borrow_mut() = Some(fault)).ok()
    }
}

impl<M: Maps> Reading<'_, M> {
    /// The binding of a path that a selector matches.
    fn selected(&self, path: &[u8], selectors: &Head, heads: &[Head]) -> Result<Option<Binding>, BindError> {
        let grant = granted(&Bytes(path), SELECTS, selectors, self);
        if let Some(fault) = self.fault.take() {
            return Err(fault.into());
        }
        let grant = grant.map_err(BindError::Selectors)?;
        if !grant.rights().contains(SELECTS) {
            return Ok(None);
        }
        let head = head_of(heads, grant.rule).ok_or(BindError::Selectors(Fault::Table))?;
        let origin = if grant.rights().contains(SELECTS_BASE) { Origin::Base } else { Origin::Selector };
        Ok(Some(Binding { slot: grant.rule, incarnation: head.incarnation, origin: origin.code() }))
    }
}

impl<M: Maps> Tables for Reading<'_, M> {
    fn exact(&self, key: &ExactKey) -> Option<Grant> {
        self.noted(self.maps.exact(key)).flatten()
    }

    fn pin(&self, _: &PinKey) -> Option<Pin> {
        None
    }

    fn cell(&self, index: u64) -> Option<u16> {
        let (chunk, within) = arena_place(index)?;
        self.noted(self.maps.arena(chunk, 1))?.first()?.cells.get(within).copied()
    }

    fn prefix(&self, _: &PrefixKey) -> Option<PortSpan> {
        None
    }

    fn port(&self, _: u32) -> Option<PortRange> {
        None
    }

    fn hash_key(&self) -> Key {
        self.key
    }

    fn repeat<S: Step>(&self, times: u32, step: &mut S) {
        let _: ControlFlow<()> = (0..times).try_for_each(|index| step.step(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bundle::verify::VerifiedBundle,
        kernel::{
            install::{Desired, install},
            testing::{Did, FakeMaps, FakeStore, image_of},
        },
    };

    fn installed(names: &[(&str, &str)]) -> FakeMaps {
        let policies: Vec<_> = names
            .iter()
            .map(|(name, cgroup)| VerifiedBundle::for_tests(image_of(name, &[]), cgroup))
            .collect();
        let mut maps = FakeMaps::default();
        install(&mut maps, &mut FakeStore::default(), &Desired { policies: &policies, launchers: &[] })
            .unwrap();
        maps.log.clear();
        maps
    }

    fn tree() -> Vec<Cgroup> {
        let cgroup = |id, path: &str, parent| Cgroup { id, path: path.as_bytes().to_vec(), parent };
        vec![
            cgroup(1, "/", None),
            cgroup(10, "/system.slice", Some(0)),
            cgroup(20, "/system.slice/web.service", Some(1)),
            cgroup(30, "/system.slice/web.service/worker", Some(2)),
            cgroup(40, "/system.slice/db.service", Some(1)),
        ]
    }

    fn bind_tree(maps: &mut FakeMaps) -> Rebound {
        rebind(maps, || Ok::<_, BindError>(tree())).unwrap()
    }

    #[test]
    fn a_match_binds_the_cgroup_and_all_below() {
        let mut maps = installed(&[("web", "/system.slice/web.service")]);
        maps.bindings.insert(999, Binding { slot: 2, incarnation: 5, origin: 0 });
        let epoch = maps.control.bind_epoch;
        assert_eq!(bind_tree(&mut maps), Rebound { bound: 2, unbound: 1 });
        let expected = Binding { slot: 2, incarnation: maps.head(2).incarnation, origin: 0 };
        assert_eq!(maps.bindings, BTreeMap::from([(20, expected), (30, expected)]));
        assert_eq!(maps.control.bind_epoch, epoch + 1);
        assert!(
            matches!(maps.log.last(), Some(Did::Control(1))),
            "the epoch grows after the bindings are there"
        );
    }

    /// Programs that look a binding up count on it.
    #[test]
    fn a_binding_is_replaced_once_in_a_grace_period() {
        let mut maps = installed(&[("web", "/system.slice/web.service")]);
        bind_tree(&mut maps);
        assert!(!maps.log.contains(&Did::Waited), "what is new replaces nothing: {:?}", maps.log);
        maps.bindings.insert(20, Binding { slot: 2, incarnation: 4711, origin: 0 });
        maps.log.clear();
        assert_eq!(bind_tree(&mut maps), Rebound { bound: 1, unbound: 0 });
        assert_eq!(maps.log[..3], [Did::Waited, Did::Bound(20), Did::Waited]);

        let container = |incarnation| Binding { slot: 2, incarnation, origin: Origin::Container.code() };
        let base = Binding { origin: Origin::Base.code(), ..container(1) };
        let mut did = |before, binding| {
            maps.log.clear();
            put(&mut maps, 20, before, binding).unwrap();
            maps.log.clone()
        };
        assert_eq!(did(None, container(1)), [Did::Bound(20)]);
        assert_eq!(did(Some(base), container(1)), [Did::Bound(20)]);
        assert_eq!(did(Some(container(1)), container(1)), []);
        assert_eq!(did(Some(container(1)), container(2)), [Did::Waited, Did::Bound(20)]);
    }

    #[test]
    fn nothing_to_do_changes_nothing() {
        let mut maps = installed(&[("web", "/system.slice/web.service")]);
        bind_tree(&mut maps);
        let (control, writes) = (maps.control, maps.writes);
        assert_eq!(bind_tree(&mut maps), Rebound::default());
        assert_eq!((maps.control, maps.writes), (control, writes));
    }

    #[test]
    fn the_nearest_selector_wins() {
        let mut maps = installed(&[("base", "/system.slice"), ("web", "/system.slice/web.service")]);
        bind_tree(&mut maps);
        let slots: Vec<_> = maps.bindings.iter().map(|(id, binding)| (*id, binding.slot)).collect();
        assert_eq!(slots, [(10, 2), (20, 3), (30, 3), (40, 2)]);
    }

    /// What a workload calls a cgroup that it makes is no way to another policy, at an installation as little as before.
    #[test]
    fn a_cgroup_that_a_workload_made_has_its_parent_s_policy() {
        let mut maps = installed(&[("web", "/system.slice/web.service"), ("lax", "/**/worker{,/**}")]);
        let [web, lax] = [2, 3].map(|slot| maps.head(slot).incarnation);
        let mut by_id = |made: Option<u64>| {
            maps.bindings.clear();
            if let Some(id) = made {
                let origin = Origin::Workload.code();
                maps.bindings.insert(id, Binding { slot: 2, incarnation: web, origin });
            }
            let mut tree = tree();
            tree.push(Cgroup {
                id: 50,
                path: b"/system.slice/web.service/worker/below".to_vec(),
                parent: Some(3),
            });
            rebind(&mut maps, || Ok::<_, BindError>(tree)).unwrap();
            [20, 30, 50].map(|id| (maps.bindings[&id].slot, maps.bindings[&id].origin))
        };
        let [selector, workload] = [Origin::Selector, Origin::Workload].map(|origin| origin.code());
        assert_ne!(web, lax);
        // The host made all three.
        assert_eq!(by_id(None), [(2, selector), (3, selector), (3, selector)]);
        // What the host makes below is called by the host.
        assert_eq!(by_id(Some(30)), [(2, selector), (2, workload), (3, selector)]);
        assert_eq!(by_id(Some(50)), [(2, selector), (3, selector), (3, workload)]);
        // The policy above is another by now.
        let mut maps = installed(&[("new", "/system.slice/web.service"), ("lax", "/**/worker")]);
        let stale = Binding { slot: 2, incarnation: 4711, origin: workload };
        maps.bindings.insert(30, stale);
        bind_tree(&mut maps);
        assert_eq!(maps.bindings[&30], Binding { origin: workload, ..maps.bindings[&20] });
    }

    #[test]
    fn without_policies_nothing_is_bound() {
        let mut maps = FakeMaps::default();
        maps.bindings.insert(20, Binding { slot: 2, incarnation: 5, origin: 0 });
        assert_eq!(bind_tree(&mut maps), Rebound { bound: 0, unbound: 1 });
        assert!(maps.bindings.is_empty());
    }
}
