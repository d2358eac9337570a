//! Installation: a whole generation of policies, all at once or not at all.
//!
//! The order is what makes it atomic. Tables and the heads of the half that is not in force are filled first, while
//! programs go on reading the other half. Then one word changes. Then, after a grace period, what nothing refers to
//! any more is removed. Whatever fails before the word changes is undone, and the policies in force never notice.
//!
//! Takes policies as [`VerifiedBundle`]s only. Neighbours: [`super::place`] computes map entries, [`super::state`]
//! remembers names, [`super::bind`] ties cgroups to what is installed here.
#![forbid(unsafe_code)]

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use enforcer_common::{
    abi::{
        Control, ExactKey, Grant, Head, PinKey, PrefixKey, SLOT_FIRST_POLICY, SLOT_LAUNCHERS, SLOT_SELECTORS,
        SLOTS, Slot,
    },
    hash::Key,
    maps as names,
    rights::Rights,
};

use super::{
    maps::{MapFault, Maps, Sizes},
    place::{self, Placement, Span},
    state::{PolicyRecord, SCHEMA, Snapshot, State, StateError, StateStore, TableRecord},
};
use crate::{
    bundle::{
        compile::{SelectorError, compile_selectors},
        verify::{Candidate, VerifiedBundle},
    },
    policy::image::PolicyImage,
};

/// Everything that shall be in force.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a, P = VerifiedBundle> {
    /// The policies.
    pub policies: &'a [P],
    /// Programs that set workloads up, by path. Local configuration: whoever can change it is root on the host.
    pub launchers: &'a [String],
}

/// What an installation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The generation now in force.
    pub generation: u64,
    /// Names that were not in force before.
    pub added: Vec<String>,
    /// Names whose rules, modes or switches changed.
    pub changed: Vec<String>,
    /// Names no longer in force. Their tasks are the host's now.
    pub removed: Vec<String>,
    /// Clean-up that has to be done again. Nothing in force depends on it.
    pub untidy: Option<String>,
}

/// An installation that was refused or failed. Unless it is said otherwise, what was in force still is.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Two policies of one name.
    #[error("two policies are named {name:?}: {first} and {second}; names must be unique, rename one")]
    DuplicateName {
        /// The name.
        name: String,
        /// Where the first came from.
        first: String,
        /// Where the second came from.
        second: String,
    },
    /// More policies than slots.
    #[error("there are {count} policies, but room for {room}; merge some")]
    TooManyPolicies {
        /// How many were wanted.
        count: usize,
        /// How many fit.
        room: usize,
    },
    /// A map is too small. During a swap the old and the new rules are there together.
    #[error(
        "policy {policy:?} does not fit: map {map} needs room for {need} more entries and has {room}; \
         raise `--max-{option}` (takes effect after `enforcer unload --yes`) or make the policy smaller"
    )]
    Capacity {
        /// The map.
        map: &'static str,
        /// The option that sets its size.
        option: &'static str,
        /// Entries needed.
        need: u64,
        /// Entries free.
        room: u64,
        /// The policy that did not fit any more.
        policy: String,
    },
    /// The selectors contradict each other.
    #[error(transparent)]
    Selectors(#[from] SelectorError),
    /// A map failed.
    #[error("{fault}; the policies that were in force still are")]
    Map {
        /// What happened.
        #[source]
        fault: MapFault,
    },
    /// The state file failed.
    #[error("{fault}; the policies that were in force still are")]
    State {
        /// What happened.
        #[source]
        fault: StateError,
    },
    /// The kernel's random numbers failed.
    #[error("no random numbers for the hash key: {0}")]
    Random(std::io::Error),
}

impl From<MapFault> for InstallError {
    fn from(fault: MapFault) -> Self {
        Self::Map { fault }
    }
}

impl From<StateError> for InstallError {
    fn from(fault: StateError) -> Self {
        Self::State { fault }
    }
}

/// Name of the image of launchers, in messages.
const LAUNCHERS: &str = "(launchers)";

/// Puts `desired` in force. The caller holds the installers' lock.
///
/// # Errors
/// [`InstallError`]; then what was in force before still is, byte for byte.
pub fn install<M: Maps, S: StateStore>(
    maps: &mut M,
    store: &mut S,
    desired: &Desired<'_>,
) -> Result<Installed, InstallError> {
    let control = keyed_control(maps)?;
    let mut state = recover(maps, store, &control, desired)?;
    let plan = Plan::new(&state, desired, maps.sizes(), &control)?;

    state.next_incarnation = plan.next_incarnation;
    state.next_table = plan.next_table;
    state.pending = Some(plan.snapshot.clone());
    store.save(&state)?;

    // Programs that still read the half we are about to write started before the previous swap.
    maps.wait_for_programs()?;
    if let Err(fault) = plan.write(maps).and_then(|()| plan.flip(maps, &control)) {
        if plan.undo(maps).is_ok() {
            state.pending = None;
            // Should this fail as well, the next installer finds the note and sweeps.
            let _ = store.save(&state);
        }
        return Err(fault.into());
    }

    let mut report = plan.report(&state.installed);
    state.installed = plan.snapshot;
    if let Err(fault) = maps.wait_for_programs().and_then(|()| sweep(maps, &state.installed)) {
        report.untidy = Some(fault.to_string());
        // Left pending, so that the next installer sweeps.
        state.pending = Some(state.installed.clone());
    } else {
        state.pending = None;
    }
    if let Err(error) = store.save(&state) {
        report.untidy = Some(error.to_string());
    }
    Ok(report)
}

/// Whether candidates could be put in force, as far as that can be told without writing. Changes nothing.
///
/// # Errors
/// [`InstallError`], as [`install`] would give it.
pub fn rehearse<M: Maps, S: StateStore>(
    maps: &M,
    store: &S,
    desired: &Desired<'_, Candidate>,
) -> Result<(), InstallError> {
    let control = maps.control()?;
    let state = store.load()?;
    let installed = observe(maps, store)?.unwrap_or_default();
    let (next_incarnation, next_table) =
        state.map_or((1, 1), |state| (state.next_incarnation, state.next_table));
    let state = State { schema: SCHEMA, installed, pending: None, next_incarnation, next_table };
    Plan::new(&state, desired, maps.sizes(), &control).map(drop)
}

/// Whether candidates would fit into maps of these sizes, were they empty.
///
/// # Errors
/// [`InstallError`], as [`install`] would give it.
pub fn rehearse_first(sizes: Sizes, desired: &Desired<'_, Candidate>) -> Result<(), InstallError> {
    let state = State {
        schema: SCHEMA,
        installed: Snapshot::default(),
        pending: None,
        next_incarnation: 1,
        next_table: 1,
    };
    Plan::new(&state, desired, sizes, &Control::default()).map(drop)
}

/// What is in force, as the maps and the state file together tell. Changes nothing.
///
/// `None`: nothing was ever installed, or the file does not describe what the maps hold.
///
/// # Errors
/// [`InstallError`].
pub fn observe<M: Maps, S: StateStore>(maps: &M, store: &S) -> Result<Option<Snapshot>, InstallError> {
    let control = maps.control()?;
    let heads = maps.heads(control.generation)?;
    let Some(state) = store.load()? else { return Ok(None) };
    Ok([Some(state.installed), state.pending]
        .into_iter()
        .flatten()
        .find(|snapshot| snapshot.generation == control.generation && describes(snapshot, &heads)))
}

/// As [`observe`], by the heads of those policies alone that the state file names: they are in force as it says, and whether
/// there are others is not looked at. Enough for whoever waits for one of them, and quicker than reading every head.
///
/// # Errors
/// [`InstallError`].
pub fn observe_policies<M: Maps, S: StateStore>(
    maps: &M,
    store: &S,
) -> Result<Option<Snapshot>, InstallError> {
    let generation = maps.control()?.generation;
    let Some(state) = store.load()? else { return Ok(None) };
    for snapshot in [Some(state.installed), state.pending].into_iter().flatten() {
        if snapshot.generation == generation && has_policies(maps, &snapshot)? {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}

fn has_policies<M: Maps>(maps: &M, snapshot: &Snapshot) -> Result<bool, MapFault> {
    for (slot, expected) in expected(snapshot) {
        let head = maps.head(snapshot.generation, slot)?;
        if head.is_none_or(|head| (head.incarnation, head.table) != expected) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The control word, with a hash key. The key is drawn when the maps are new: as long as no generation was installed
/// nothing is looked up under it.
fn keyed_control<M: Maps>(maps: &mut M) -> Result<Control, InstallError> {
    let mut control = maps.control()?;
    if control.hash_key == [0, 0] {
        let bytes: [u8; 16] = crate::sys::random().map_err(InstallError::Random)?;
        let number = u128::from_le_bytes(bytes);
        let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or(1);
        control.hash_key = [low, u64::try_from(number >> 64).unwrap_or(1)];
        maps.set_control(&control)?;
    }
    Ok(control)
}

/// The state that the maps bear out. Sweeps what an installer that did not finish may have left.
fn recover<M: Maps, S: StateStore, P: AsRef<Candidate>>(
    maps: &mut M,
    store: &S,
    control: &Control,
    desired: &Desired<'_, P>,
) -> Result<State, InstallError> {
    let heads = maps.heads(control.generation)?;
    let stored = store.load()?;
    if let Some(state) = &stored {
        let candidates = [Some(&state.installed), state.pending.as_ref()];
        let current = candidates
            .into_iter()
            .flatten()
            .find(|snapshot| snapshot.generation == control.generation && describes(snapshot, &heads));
        if let Some(current) = current {
            let recovered = State { installed: current.clone(), pending: None, ..state.clone() };
            if state.pending.is_some() {
                sweep(maps, &recovered.installed)?;
            }
            return Ok(recovered);
        }
    }
    let nothing = heads.iter().all(|head| head.incarnation == 0);
    if !nothing {
        tracing::warn!(
            "the state file does not describe what is installed; names are found again by content"
        );
    }
    let installed = derive(maps, control, &heads, desired)?;
    sweep(maps, &installed)?;
    let highest = heads.iter().map(|head| head.table).max().unwrap_or(0);
    let (next_incarnation, next_table) = match stored {
        Some(state) => (state.next_incarnation, state.next_table.max(highest.saturating_add(1))),
        // Labels of an earlier installation may be around; a random start keeps clear of theirs.
        None => {
            let random = u32::from_le_bytes(crate::sys::random().map_err(InstallError::Random)?);
            (random | 1, highest.saturating_add(1))
        }
    };
    Ok(State { schema: SCHEMA, installed, pending: None, next_incarnation, next_table })
}

/// Incarnation and table of each head, by slot, that a snapshot stands for. All others are empty.
fn expected(snapshot: &Snapshot) -> BTreeMap<Slot, (u32, u32)> {
    let of_policies =
        snapshot.policies.iter().map(|policy| (policy.slot, (policy.incarnation, policy.table)));
    let house = [
        (SLOT_LAUNCHERS, (HOUSE_INCARNATION, snapshot.launchers_table)),
        (SLOT_SELECTORS, (HOUSE_INCARNATION, snapshot.selectors_table)),
    ];
    of_policies.chain(house).collect()
}

/// Whether the heads in force are those of the snapshot.
fn describes(snapshot: &Snapshot, heads: &[Head]) -> bool {
    let expected = expected(snapshot);
    (0..).zip(heads).all(|(slot, head)| match expected.get(&slot) {
        Some((incarnation, table)) => head.incarnation == *incarnation && head.table == *table,
        None => head.incarnation == 0,
    })
}

/// Incarnation of launchers and selectors, which no label ever carries.
const HOUSE_INCARNATION: u32 = 1;

/// Builds a snapshot from the maps alone. A policy is recognised if its slot holds exactly what one of the desired
/// policies would be there; others are called by their slot, and the installation that follows removes them.
fn derive<M: Maps, P: AsRef<Candidate>>(
    maps: &M,
    control: &Control,
    heads: &[Head],
    desired: &Desired<'_, P>,
) -> Result<Snapshot, InstallError> {
    let tables = derive_tables(maps, heads)?;
    let mut unclaimed: Vec<&Candidate> = desired.policies.iter().map(AsRef::as_ref).collect();
    let mut policies = Vec::new();
    for (slot, head) in
        (0..).zip(heads).filter(|(slot, head)| *slot >= SLOT_FIRST_POLICY && head.incarnation != 0)
    {
        let table = tables.iter().find(|table| table.id == head.table);
        let at = Placement {
            table: head.table,
            arena: table.map_or(0, |table| table.arena.first),
            ports: table.map_or(0, |table| table.ports.first),
        };
        let mut claim = None;
        for (index, bundle) in unclaimed.iter().enumerate() {
            if holds(maps, bundle.image(), at, head, Key(control.hash_key))? {
                claim = Some(index);
                break;
            }
        }
        let bundle = claim.map(|index| unclaimed.swap_remove(index));
        policies.push(PolicyRecord {
            name: bundle.map_or_else(|| format!("(slot {slot})"), |bundle| bundle.name().to_owned()),
            slot,
            incarnation: head.incarnation,
            table: head.table,
            origin: bundle.map_or_else(|| "unknown".to_owned(), |bundle| bundle.origin().to_owned()),
            digest: bundle.map_or_else(String::new, Candidate::digest),
            trust: bundle.map_or_else(|| "unknown".to_owned(), |bundle| bundle.trust().to_string()),
            modes: head.modes.to_vec(),
            containers: bundle.and_then(|bundle| bundle.compiled().policy.selector.container.clone()),
        });
    }
    let house = |slot: Slot| heads.get(index(slot)).map_or(0, |head| head.table);
    Ok(Snapshot {
        generation: control.generation,
        launchers: Vec::new(),
        launchers_table: house(SLOT_LAUNCHERS),
        selectors_table: house(SLOT_SELECTORS),
        policies,
        tables,
    })
}

fn derive_tables<M: Maps>(maps: &M, heads: &[Head]) -> Result<Vec<TableRecord>, InstallError> {
    let mut tables: BTreeMap<u32, TableRecord> = BTreeMap::new();
    for head in heads.iter().filter(|head| head.incarnation != 0) {
        tables.entry(head.table).or_insert_with(|| {
            let first = head.transitions / enforcer_common::abi::ARENA_CHUNK_CELLS;
            let end =
                head.accepts.saturating_add(head.states.saturating_mul(enforcer_common::abi::ACCEPT_CELLS));
            let chunks = end.div_ceil(enforcer_common::abi::ARENA_CHUNK_CELLS).saturating_sub(first);
            TableRecord {
                id: head.table,
                digest: String::new(),
                exact: 0,
                pins: 0,
                prefixes: 0,
                arena: if head.states == 0 { Span::default() } else { Span { first, count: chunks } },
                ports: Span::default(),
            }
        });
    }
    for key in maps.exact_keys()? {
        if let Some(table) = tables.get_mut(&key.table) {
            table.exact += 1;
        }
    }
    for (key, _) in maps.pins()? {
        if let Some(table) = tables.get_mut(&key.name.table) {
            table.pins += 1;
        }
    }
    for (key, span) in maps.prefixes()? {
        if let Some(table) = tables.get_mut(&key.table) {
            table.prefixes += 1;
            let whole = &mut table.ports;
            let end = whole.end().max(span.first.saturating_add(span.count));
            whole.first = if whole.count == 0 { span.first } else { whole.first.min(span.first) };
            whole.count = end.saturating_sub(whole.first);
        }
    }
    Ok(tables.into_values().collect())
}

/// Whether a slot holds just this image.
fn holds<M: Maps>(
    maps: &M,
    image: &PolicyImage,
    at: Placement,
    head: &Head,
    key: Key,
) -> Result<bool, MapFault> {
    if place::head(image, at, head.incarnation) != *head {
        return Ok(false);
    }
    let contents = place::contents(image, at, key);
    for (key, grant) in &contents.exact {
        if maps.exact(key)? != Some(*grant) {
            return Ok(false);
        }
    }
    let exact = maps.exact_keys()?.iter().filter(|key| key.table == at.table).count();
    let mut prefixes: Vec<_> =
        maps.prefixes()?.into_iter().filter(|(key, _)| key.table == at.table).collect();
    let mut expected = contents.prefixes.clone();
    prefixes.sort_by_key(|(key, _)| *key);
    expected.sort_by_key(|(key, _)| *key);
    let pins: BTreeMap<PinKey, u32> = maps
        .pins()?
        .into_iter()
        .filter(|(key, _)| key.name.table == at.table)
        .map(|(key, pin)| (key, pin.rule))
        .collect();
    Ok(exact == contents.exact.len()
        && pins == contents.pins.iter().map(|(key, pin)| (*key, pin.rule)).collect()
        && prefixes == expected
        && maps.arena(at.arena, count(contents.arena.len()))? == contents.arena
        && maps.ports(at.ports, count(contents.ports.len()))? == contents.ports)
}

/// Removes entries of tables that are not part of the snapshot.
fn sweep<M: Maps>(maps: &mut M, live: &Snapshot) -> Result<(), MapFault> {
    let tables: BTreeSet<u32> = live.tables.iter().map(|table| table.id).collect();
    let exact: Vec<ExactKey> =
        maps.exact_keys()?.into_iter().filter(|key| !tables.contains(&key.table)).collect();
    maps.remove_exact(&exact)?;
    let pins: Vec<PinKey> = maps
        .pins()?
        .into_iter()
        .map(|(key, _)| key)
        .filter(|key| !tables.contains(&key.name.table))
        .collect();
    maps.remove_pins(&pins)?;
    let prefixes: Vec<PrefixKey> =
        maps.prefixes()?.into_iter().map(|(key, _)| key).filter(|key| !tables.contains(&key.table)).collect();
    maps.remove_prefixes(&prefixes)
}

/// Everything an installation will write, worked out before it writes anything. What becomes of each table's rules in the
/// maps is computed when it is written: that is most of the work, and of the memory.
struct Plan<'a> {
    snapshot: Snapshot,
    heads: Vec<Head>,
    /// New tables.
    fresh: Vec<FreshTable<'a>>,
    key: Key,
    next_incarnation: u32,
    next_table: u32,
}

/// A table that is not there yet, and where it goes.
struct FreshTable<'a> {
    at: Placement,
    image: Cow<'a, PolicyImage>,
}

impl<'a> Plan<'a> {
    fn new<P: AsRef<Candidate>>(
        state: &State,
        desired: &Desired<'a, P>,
        sizes: Sizes,
        control: &Control,
    ) -> Result<Self, InstallError> {
        let candidates: Vec<&'a Candidate> = desired.policies.iter().map(AsRef::as_ref).collect();
        refuse_duplicates(&candidates)?;
        let mut incarnations = Counter(state.next_incarnation);
        let slots = assign_slots(&state.installed, &candidates, &mut incarnations)?;
        let launchers = launchers_image(desired.launchers);
        let selected: Vec<(&Candidate, Slot)> =
            candidates.iter().zip(&slots).map(|(bundle, (slot, _))| (*bundle, *slot)).collect();
        let selectors = compile_selectors(&selected)?;

        let mut tables = Tables::new(&state.installed, sizes, state.next_table);
        let mut heads = vec![Head::EMPTY; index(SLOTS)];
        let mut fresh = Vec::new();
        let mut put = |slot: Slot, incarnation, image: Cow<'a, PolicyImage>| -> Result<u32, InstallError> {
            let (at, is_fresh) = tables.place(&image)?;
            heads[index(slot)] = place::head(&image, at, incarnation);
            if is_fresh {
                fresh.push(FreshTable { at, image });
            }
            Ok(at.table)
        };
        let launchers_table = put(SLOT_LAUNCHERS, HOUSE_INCARNATION, Cow::Owned(launchers))?;
        let selectors_table = put(SLOT_SELECTORS, HOUSE_INCARNATION, Cow::Owned(selectors))?;
        let mut policies = Vec::new();
        for (bundle, (slot, incarnation)) in candidates.into_iter().zip(slots) {
            let table = put(slot, incarnation, Cow::Borrowed(bundle.image()))?;
            policies.push(PolicyRecord {
                name: bundle.name().to_owned(),
                slot,
                incarnation,
                table,
                origin: bundle.origin().to_owned(),
                digest: bundle.digest(),
                trust: bundle.trust().to_string(),
                modes: bundle.image().modes.to_vec(),
                containers: bundle.compiled().policy.selector.container.clone(),
            });
        }
        policies.sort_by(|one, other| one.name.cmp(&other.name));
        let snapshot = Snapshot {
            generation: control.generation.wrapping_add(1),
            launchers: desired.launchers.to_vec(),
            launchers_table,
            selectors_table,
            policies,
            tables: tables.used,
        };
        Ok(Self {
            snapshot,
            heads,
            fresh,
            key: Key(control.hash_key),
            next_incarnation: incarnations.0,
            next_table: tables.next.0,
        })
    }

    fn write<M: Maps>(&self, maps: &mut M) -> Result<(), MapFault> {
        for FreshTable { at, image } in &self.fresh {
            let contents = place::contents(image, *at, self.key);
            maps.set_arena(at.arena, &contents.arena)?;
            maps.set_ports(at.ports, &contents.ports)?;
            maps.insert_exact(&contents.exact)?;
            maps.insert_pins(&contents.pins)?;
            maps.insert_prefixes(&contents.prefixes)?;
        }
        maps.set_heads(self.snapshot.generation, &self.heads)
    }

    /// The swap. The array's update copies the value in words of eight bytes; of those only the first differs.
    fn flip<M: Maps>(&self, maps: &mut M, before: &Control) -> Result<(), MapFault> {
        maps.set_control(&Control { generation: self.snapshot.generation, ..*before })
    }

    /// Removes what [`Plan::write`] added. Arena, ports and the heads of the other half need nothing: nobody refers
    /// to them, and the next installation overwrites them.
    fn undo<M: Maps>(&self, maps: &mut M) -> Result<(), MapFault> {
        for FreshTable { at, image } in &self.fresh {
            let contents = place::contents(image, *at, self.key);
            let exact: Vec<ExactKey> = contents.exact.iter().map(|(key, _)| *key).collect();
            maps.remove_exact(&exact)?;
            let pins: Vec<PinKey> = contents.pins.iter().map(|(key, _)| *key).collect();
            maps.remove_pins(&pins)?;
            let prefixes: Vec<PrefixKey> = contents.prefixes.iter().map(|(key, _)| *key).collect();
            maps.remove_prefixes(&prefixes)?;
        }
        Ok(())
    }

    fn report(&self, before: &Snapshot) -> Installed {
        let mut report = Installed { generation: self.snapshot.generation, ..Installed::default() };
        let (old, new) = (by_name(before), by_name(&self.snapshot));
        for policy in &self.snapshot.policies {
            match old.get(policy.name.as_str()) {
                None => report.added.push(policy.name.clone()),
                Some(old) if old.digest != policy.digest || old.modes != policy.modes => {
                    report.changed.push(policy.name.clone());
                }
                Some(_) => {}
            }
        }
        let gone = before.policies.iter().filter(|old| !new.contains_key(old.name.as_str()));
        report.removed = gone.map(|old| old.name.clone()).collect();
        report
    }
}

/// The policies of a snapshot, of which there may be thousands.
fn by_name(snapshot: &Snapshot) -> HashMap<&str, &PolicyRecord> {
    snapshot.policies.iter().map(|policy| (policy.name.as_str(), policy)).collect()
}

fn refuse_duplicates(policies: &[&Candidate]) -> Result<(), InstallError> {
    let mut seen: BTreeMap<&str, &Candidate> = BTreeMap::new();
    for bundle in policies {
        if let Some(first) = seen.insert(bundle.name(), bundle) {
            return Err(InstallError::DuplicateName {
                name: bundle.name().to_owned(),
                first: first.origin().to_owned(),
                second: bundle.origin().to_owned(),
            });
        }
    }
    Ok(())
}

/// Slot and incarnation of each policy, in order. A name that stays keeps both; a new name gets a slot that was free,
/// and only when none is left one that this installation frees.
fn assign_slots(
    before: &Snapshot,
    policies: &[&Candidate],
    incarnations: &mut Counter,
) -> Result<Vec<(Slot, u32)>, InstallError> {
    let room = index(SLOTS - SLOT_FIRST_POLICY);
    if policies.len() > room {
        return Err(InstallError::TooManyPolicies { count: policies.len(), room });
    }
    let known = by_name(before);
    let kept: BTreeSet<Slot> =
        policies.iter().filter_map(|bundle| known.get(bundle.name())).map(|policy| policy.slot).collect();
    let occupied: BTreeSet<Slot> = before.policies.iter().map(|policy| policy.slot).collect();
    let fresh = (SLOT_FIRST_POLICY..SLOTS).filter(|slot| !occupied.contains(slot));
    let freed = occupied.iter().copied().filter(|slot| !kept.contains(slot));
    let mut free = fresh.chain(freed);
    policies
        .iter()
        .map(|bundle| match known.get(bundle.name()) {
            Some(policy) => Ok((policy.slot, policy.incarnation)),
            None => {
                let slot =
                    free.next().ok_or(InstallError::TooManyPolicies { count: policies.len(), room })?;
                Ok((slot, incarnations.next()))
            }
        })
        .collect()
}

/// Numbers that are given out once. Zero means "none" wherever they are used.
struct Counter(u32);

impl Counter {
    fn next(&mut self) -> u32 {
        let number = self.0.max(1);
        self.0 = number.checked_add(1).unwrap_or(1);
        number
    }
}

/// Launchers as `exec` rules.
fn launchers_image(launchers: &[String]) -> PolicyImage {
    let grant = |rule: usize| Grant { rights: Rights::EXEC.0, min_trust: 0, on_low: 0, rule: count(rule) };
    let mut image = PolicyImage::empty(LAUNCHERS.to_owned());
    image.exact =
        launchers.iter().enumerate().map(|(rule, path)| (path.as_bytes().to_vec(), grant(rule))).collect();
    image
}

/// Allocation of tables, and with it the proof that everything fits: old and new are there together until the swap.
///
/// There may be thousands, so nothing here looks at all of them for each.
struct Tables {
    used: Vec<TableRecord>,
    next: Counter,
    sizes: Sizes,
    /// Every table there is, old and new, by what it holds.
    by_digest: HashMap<String, Known>,
    ids: BTreeSet<u32>,
    /// Entries that all of them take.
    exact: u64,
    pins: u64,
    prefixes: u64,
    arena: Runs,
    ports: Runs,
}

/// A table, and whether the new generation uses it yet.
struct Known {
    table: TableRecord,
    used: bool,
}

impl Tables {
    fn new(before: &Snapshot, sizes: Sizes, next: u32) -> Self {
        let mut tables = Self {
            used: Vec::new(),
            next: Counter(next),
            sizes,
            by_digest: HashMap::new(),
            ids: BTreeSet::new(),
            exact: 0,
            pins: 0,
            prefixes: 0,
            arena: Runs::default(),
            ports: Runs::default(),
        };
        for table in &before.tables {
            tables.count(table);
            tables
                .by_digest
                .entry(table.digest.clone())
                .or_insert(Known { table: table.clone(), used: false });
        }
        tables
    }

    /// Where the table of an image goes, and whether it is not there yet.
    fn place(&mut self, image: &PolicyImage) -> Result<(Placement, bool), InstallError> {
        let digest = place::digest(image);
        if let Some(known) = self.by_digest.get_mut(&digest) {
            if !std::mem::replace(&mut known.used, true) {
                self.used.push(known.table.clone());
            }
            return Ok((placement(&known.table), false));
        }
        let needs = place::needs(image);
        let refuse = |map, option, need, room| InstallError::Capacity {
            map,
            option,
            need: u64::from(need),
            room,
            policy: image.name.clone(),
        };
        let room = |size: u32, taken: u64| u64::from(size).saturating_sub(taken);
        let exact = room(self.sizes.exact, self.exact);
        if u64::from(needs.exact) > exact {
            return Err(refuse(names::EXACT, "exact", needs.exact, exact));
        }
        let pins = room(self.sizes.pins, self.pins);
        if u64::from(needs.pins) > pins {
            return Err(refuse(names::PINS, "pins", needs.pins, pins));
        }
        let prefixes = room(self.sizes.prefixes, self.prefixes);
        if u64::from(needs.prefixes) > prefixes {
            return Err(refuse(names::PREFIXES, "prefixes", needs.prefixes, prefixes));
        }
        let arena = self
            .arena
            .fit(needs.arena, self.sizes.arena)
            .map_err(|room| refuse(names::ARENA, "arena", needs.arena, room))?;
        let ports = self
            .ports
            .fit(needs.ports, self.sizes.ports)
            .map_err(|room| refuse(names::PORTS, "ports", needs.ports, room))?;
        let table = TableRecord {
            id: self.fresh_id(),
            digest: digest.clone(),
            exact: needs.exact,
            pins: needs.pins,
            prefixes: needs.prefixes,
            arena,
            ports,
        };
        let at = placement(&table);
        self.count(&table);
        self.used.push(table.clone());
        self.by_digest.insert(digest, Known { table, used: true });
        Ok((at, true))
    }

    fn count(&mut self, table: &TableRecord) {
        self.ids.insert(table.id);
        self.exact += u64::from(table.exact);
        self.pins += u64::from(table.pins);
        self.prefixes += u64::from(table.prefixes);
        self.arena.take(table.arena);
        self.ports.take(table.ports);
    }

    fn fresh_id(&mut self) -> u32 {
        loop {
            let id = self.next.next();
            if !self.ids.contains(&id) {
                return id;
            }
        }
    }
}

/// The parts of an array that are taken, by their first element.
#[derive(Default)]
struct Runs(BTreeMap<u32, u32>);

impl Runs {
    fn take(&mut self, span: Span) {
        if span.count != 0 {
            let end = self.0.entry(span.first).or_default();
            *end = span.end().max(*end);
        }
    }

    /// First fit. On failure says how long the longest free run is.
    fn fit(&self, count: u32, size: u32) -> Result<Span, u64> {
        let mut first = 0;
        let mut longest = 0;
        for (next, end) in self.0.iter().map(|(first, end)| (*first, *end)).chain([(size, size)]) {
            let gap = next.saturating_sub(first);
            if gap >= count {
                return Ok(Span { first: if count == 0 { 0 } else { first }, count });
            }
            longest = longest.max(gap);
            first = first.max(end);
        }
        Err(u64::from(longest))
    }
}

const fn placement(table: &TableRecord) -> Placement {
    Placement { table: table.id, arena: table.arena.first, ports: table.ports.first }
}

fn index(slot: Slot) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use enforcer_common::{
        abi::{Measure, PortRange, content, digest_of},
        decide::{Bytes, Contents, Request, decide, granted},
        verdict::{Decision, Reason},
    };

    use super::*;
    use crate::kernel::testing::{Did, FakeMaps, FakeStore, View, image_of};

    const LAUNCHER: &str = "/usr/bin/runc";

    fn bundle(name: &str, exact: &[(&[u8], Rights)]) -> VerifiedBundle {
        VerifiedBundle::for_tests(image_of(name, exact), &format!("/system.slice/{name}.service"))
    }

    /// With an automaton and prefixes, so that every map is written.
    fn rich(name: &str, seed: u16) -> VerifiedBundle {
        let mut image = image_of(name, &[(b"/bin/true", Rights::EXEC), (b"/etc/passwd", Rights::READ)]);
        image.automaton = Some(crate::policy::image::Automaton {
            class_of: [0; 256],
            classes: 1,
            start: 1,
            transitions: vec![0, 1],
            accepts: vec![0, 0, 0, 0, 4, 0, seed, 0],
        });
        let range = PortRange { low: seed, high: seed, flows: 1, rule: 0, reserved: 0 };
        image.prefixes = BTreeMap::from([(([1; 16], 128), vec![range]), (([2; 16], 64), vec![range; 2])]);
        let [low, high] = seed.to_le_bytes();
        let pin = |measure, byte| ((b"/bin/pinned".to_vec(), measure, [byte; 32]), 0);
        image.pins = [pin(Measure::Sha256, low), pin(Measure::FsVerity, !high)].into();
        VerifiedBundle::for_tests(image, &format!("/{name}"))
    }

    fn put(
        maps: &mut FakeMaps,
        store: &mut FakeStore,
        policies: &[VerifiedBundle],
    ) -> Result<Installed, InstallError> {
        install(maps, store, &Desired { policies, launchers: &[LAUNCHER.to_owned()] })
    }

    fn allows(maps: &FakeMaps, slot: Slot, name: &[u8]) -> bool {
        let head = maps.head(slot);
        head.incarnation != 0
            && granted(&Bytes(name), Rights::EXEC, &head, maps).unwrap().rights().contains(Rights::EXEC)
    }

    #[test]
    fn the_first_installation() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        maps.control.hash_key = [0, 0];
        let report =
            put(&mut maps, &mut store, &[bundle("web", &[(b"/usr/sbin/nginx", Rights::EXEC)])]).unwrap();
        assert_eq!((report.generation, report.added.as_slice()), (1, ["web".to_owned()].as_slice()));
        assert_ne!(maps.control.hash_key, [0, 0]);
        assert!(allows(&maps, 2, b"/usr/sbin/nginx"));
        assert!(!allows(&maps, 2, b"/bin/sh"));
        assert!(allows(&maps, SLOT_LAUNCHERS, LAUNCHER.as_bytes()));
        let selectors = maps.head(SLOT_SELECTORS);
        let found = granted(&Bytes(b"/system.slice/web.service"), Rights::EXEC, &selectors, &maps).unwrap();
        assert_eq!(found.rule, 2, "a selector's rule is the slot");
        assert_eq!(observe(&maps, &store).unwrap().unwrap().policies[0].name, "web");
        assert_eq!(observe_policies(&maps, &store).unwrap(), observe(&maps, &store).unwrap());
        let mut other = maps.clone();
        other.control.generation += 2;
        assert_eq!(observe_policies(&other, &store).unwrap(), None, "of another generation");
        let mut other = maps.clone();
        let slot = observe(&maps, &store).unwrap().unwrap().policies[0].slot;
        other.heads[names::head_index(other.control.generation, slot) as usize].incarnation += 1;
        assert_eq!(observe_policies(&other, &store).unwrap(), None, "another policy has its slot");
        assert!(store.state.unwrap().pending.is_none());
    }

    #[test]
    fn heads_before_the_flip_the_flip_in_one_write_and_removal_after_a_grace_period() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        put(&mut maps, &mut store, &[bundle("web", &[(b"/a", Rights::EXEC)])]).unwrap();
        maps.log.clear();
        put(&mut maps, &mut store, &[bundle("web", &[(b"/b", Rights::EXEC)])]).unwrap();
        let flips: Vec<_> = maps.log.iter().filter(|did| matches!(did, Did::Control(_))).collect();
        assert_eq!(flips, [&Did::Control(2)], "one write of the word");
        let at = |wanted: fn(&Did) -> bool| maps.log.iter().position(wanted).unwrap();
        let last = |wanted: fn(&Did) -> bool| maps.log.iter().rposition(wanted).unwrap();
        let flip = at(|did| matches!(did, Did::Control(_)));
        assert_eq!(
            maps.log[0],
            Did::Waited,
            "programs of the swap before the last may read the half to be written"
        );
        assert!(last(|did| matches!(did, Did::Table(_))) < at(|did| matches!(did, Did::Heads(_))));
        assert!(at(|did| matches!(did, Did::Heads(2))) < flip);
        let wait = last(|did| matches!(did, Did::Waited));
        let removal = at(|did| matches!(did, Did::Removed(_)));
        assert!(flip < wait && wait < removal, "{:?}", maps.log);
        assert!(allows(&maps, 2, b"/b") && !allows(&maps, 2, b"/a"));
        assert_eq!(maps.exact.len(), 3, "launcher, selector, /b");
    }

    #[test]
    fn a_failure_at_any_write_leaves_what_is_in_force_untouched() {
        let before = [rich("web", 80), bundle("db", &[(b"/bin/db", Rights::EXEC)])];
        let after = [rich("web", 443), bundle("cache", &[(b"/bin/cache", Rights::EXEC)])];
        let (mut settled, mut settled_store) = (FakeMaps::default(), FakeStore::default());
        put(&mut settled, &mut settled_store, &before).unwrap();
        let old: View = settled.view();
        let mut swapped = settled.clone();
        let mut swapped_store = FakeStore { state: settled_store.state.clone(), ..FakeStore::default() };
        put(&mut swapped, &mut swapped_store, &after).unwrap();

        let (mut failed, mut untidy) = (0, 0);
        for number in 1.. {
            let mut maps = settled.clone();
            (maps.writes, maps.fail_at) = (0, Some(number));
            let mut store = FakeStore { state: settled_store.state.clone(), ..FakeStore::default() };
            let result = put(&mut maps, &mut store, &after);
            if maps.writes < number {
                result.unwrap();
                break;
            }
            match result {
                Err(error) => {
                    failed += 1;
                    assert_eq!(maps.view(), old, "write {number}: {error}");
                }
                Ok(report) => {
                    untidy += 1;
                    assert!(report.untidy.is_some(), "write {number}");
                    assert_eq!(maps.control.generation, 2);
                }
            }
            // Whatever happened, the next installer gets it right.
            maps.fail_at = None;
            put(&mut maps, &mut store, &after).unwrap();
            assert_eq!(maps.exact.len(), swapped.exact.len(), "write {number}");
            assert_eq!(maps.prefixes.len(), swapped.prefixes.len(), "write {number}");
            assert!(allows(&maps, slot_of(&store, "cache"), b"/bin/cache"));
        }
        assert!(failed > 10 && untidy > 3, "{failed} {untidy}");
    }

    fn slot_of(store: &FakeStore, name: &str) -> Slot {
        store.state.as_ref().unwrap().installed.policy(name).unwrap().slot
    }

    #[test]
    fn a_crash_at_any_write_is_recovered_from() {
        let before = [rich("web", 80), bundle("db", &[(b"/bin/db", Rights::EXEC)])];
        let after = [rich("web", 443), bundle("cache", &[(b"/bin/cache", Rights::EXEC)])];
        let (mut settled, mut settled_store) = (FakeMaps::default(), FakeStore::default());
        put(&mut settled, &mut settled_store, &before).unwrap();
        let old = settled.view();
        for number in 1..60 {
            let mut maps = settled.clone();
            (maps.writes, maps.fail_at) = (0, Some(number));
            // A crash does not undo: run the plan by hand and stop where the write fails.
            let mut store = FakeStore { state: settled_store.state.clone(), ..FakeStore::default() };
            let desired = Desired { policies: &after, launchers: &[LAUNCHER.to_owned()] };
            let control = maps.control;
            let mut state = recover(&mut maps, &store, &control, &desired).unwrap();
            let plan = Plan::new(&state, &desired, maps.sizes, &control).unwrap();
            (state.next_incarnation, state.next_table) = (plan.next_incarnation, plan.next_table);
            state.pending = Some(plan.snapshot.clone());
            store.save(&state).unwrap();
            let flipped = plan.write(&mut maps).and_then(|()| plan.flip(&mut maps, &control)).is_ok();
            maps.fail_at = None;
            if !flipped {
                assert_eq!(maps.heads(1).unwrap(), settled.heads(1).unwrap());
            }
            let name = if flipped { "cache" } else { "db" };
            let seen = observe(&maps, &store).unwrap().unwrap();
            assert!(seen.policy(name).is_some(), "write {number}: {seen:?}");
            // The old policies again: same slots, same incarnations, nothing of the other attempt left behind.
            put(&mut maps, &mut store, &before).unwrap();
            assert_eq!(maps.exact.len(), settled.exact.len(), "write {number}");
            assert_eq!(maps.prefixes.len(), settled.prefixes.len());
            let web = store.state.as_ref().unwrap().installed.policy("web").unwrap().clone();
            assert_eq!(web.incarnation, settled.head(slot_of(&settled_store, "web")).incarnation);
        }
        assert_eq!(settled.view(), old);
    }

    #[test]
    fn names_keep_their_slot_and_a_returning_name_gets_a_new_incarnation() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        let [a, b, c] = ["a", "b", "c"].map(|name| bundle(name, &[(b"/x", Rights::EXEC)]));
        put(&mut maps, &mut store, &[a.clone(), b.clone()]).unwrap();
        let slots = |store: &FakeStore| -> Vec<(String, Slot, u32)> {
            let policies = &store.state.as_ref().unwrap().installed.policies;
            policies.iter().map(|policy| (policy.name.clone(), policy.slot, policy.incarnation)).collect()
        };
        let first = slots(&store);
        let (a1, b1) = (first[0].2, first[1].2);
        assert_eq!(first, [("a".into(), 2, a1), ("b".into(), 3, b1)]);
        assert_ne!(a1, b1);
        let report = put(&mut maps, &mut store, &[b.clone(), c]).unwrap();
        assert_eq!((report.added, report.removed), (vec!["c".to_owned()], vec!["a".to_owned()]));
        assert_eq!(slots(&store), [("b".into(), 3, b1), ("c".into(), 4, b1 + 1)]);
        assert_eq!(maps.head(2), Head::EMPTY);
        put(&mut maps, &mut store, &[a, b]).unwrap();
        assert_eq!(slots(&store), [("a".into(), 2, b1 + 2), ("b".into(), 3, b1)]);
    }

    #[test]
    fn equal_rules_share_a_table_and_stay_where_they_are() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        let same: &[(&[u8], Rights)] = &[(b"/x", Rights::EXEC)];
        put(&mut maps, &mut store, &[bundle("a", same), bundle("b", same)]).unwrap();
        assert_eq!(maps.head(2).table, maps.head(3).table);
        assert_ne!(maps.head(2).incarnation, maps.head(3).incarnation);
        let table = maps.head(2).table;
        maps.log.clear();
        let mut audit = image_of("a", same);
        audit.modes[0] = 1;
        put(
            &mut maps,
            &mut store,
            &[VerifiedBundle::for_tests(audit, "/system.slice/a.service"), bundle("b", same)],
        )
        .unwrap();
        assert_eq!((maps.head(2).table, maps.head(2).modes[0]), (table, 1));
        assert!(!maps.log.iter().any(|did| matches!(did, Did::Table(_) | Did::Removed(_))), "{:?}", maps.log);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_numbers_and_before_any_write() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        let names: Vec<Vec<u8>> = (0..40).map(|number| format!("/bin/{number}").into_bytes()).collect();
        let rules: Vec<(&[u8], Rights)> = names.iter().map(|name| (name.as_slice(), Rights::EXEC)).collect();
        put(&mut maps, &mut store, &[bundle("big", &rules)]).unwrap();
        let (view, writes) = (maps.view(), maps.writes);
        let mut other = rules.clone();
        other.pop();
        let error = put(&mut maps, &mut store, &[bundle("big", &other)]).unwrap_err();
        let InstallError::Capacity { map, need, room, policy, .. } = &error else { panic!("{error}") };
        // 64 entries: 40 old rules, launcher and selector of before, which are kept.
        assert_eq!((*map, *need, *room, policy.as_str()), (names::EXACT, 39, 22, "big"), "{error}");
        assert_eq!((maps.view(), maps.writes), (view, writes));
        assert!(error.to_string().contains("--max-exact"));
    }

    #[test]
    fn more_contents_than_fit_are_refused() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        let pinning = |count: u8| {
            let mut image = image_of("pins", &[(b"/bin/pinned", Rights::EXEC_PINNED)]);
            let pin = |at| ((b"/bin/pinned".to_vec(), Measure::Sha256, [at; 32]), 0);
            image.pins = (0..count).map(pin).collect();
            VerifiedBundle::for_tests(image, "/pins")
        };
        put(&mut maps, &mut store, &[pinning(9)]).unwrap();
        let view = maps.view();
        // Old and new are there together until the swap.
        let error = put(&mut maps, &mut store, &[pinning(8)]).unwrap_err();
        let InstallError::Capacity { map, need, room, .. } = &error else { panic!("{error}") };
        assert_eq!((*map, *need, *room), (names::PINS, 8, 7));
        assert!(error.to_string().contains("--max-pins"));
        assert_eq!(maps.view(), view);
        put(&mut maps, &mut store, &[pinning(7)]).unwrap();
        assert_eq!(maps.pins.len(), 7, "the old ones are gone");
        let name = Bytes(b"/bin/pinned");
        let ask = |digest: [u8; 32]| {
            let digest = digest_of(digest);
            let contents = Contents::of(Some(&digest), None);
            decide(&Request::Content { name: &name, contents }, &maps.head(2), &maps).reason
        };
        assert_eq!((ask([6; 32]), ask([7; 32])), (Reason::Rule, Reason::Digest));
    }

    #[test]
    fn spans_are_first_fit_and_the_longest_gap_is_told() {
        let mut runs = Runs::default();
        for span in [Span { first: 8, count: 2 }, Span { first: 0, count: 4 }, Span { first: 6, count: 0 }] {
            runs.take(span);
        }
        assert_eq!(runs.fit(4, 16), Ok(Span { first: 4, count: 4 }));
        assert_eq!(runs.fit(5, 16), Ok(Span { first: 10, count: 5 }));
        assert_eq!(runs.fit(7, 16), Err(6));
        assert_eq!(runs.fit(0, 16), Ok(Span::default()));
        runs.take(Span { first: 4, count: 4 });
        assert_eq!(runs.fit(1, 16), Ok(Span { first: 10, count: 1 }));
    }

    #[test]
    fn duplicate_names_are_refused() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        let error = put(&mut maps, &mut store, &[bundle("a", &[]), bundle("a", &[])]).unwrap_err();
        assert!(matches!(error, InstallError::DuplicateName { .. }), "{error}");
    }

    #[test]
    fn names_are_found_again_when_the_state_is_lost() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        let policies = [rich("web", 80), bundle("db", &[(b"/bin/db", Rights::EXEC)])];
        put(&mut maps, &mut store, &policies).unwrap();
        let kept = maps.head(slot_of(&store, "web")).incarnation;
        let mut lost = FakeStore::default();
        assert_eq!(observe(&maps, &lost).unwrap(), None);
        let changed = bundle("db", &[(b"/bin/other", Rights::EXEC)]);
        let report = put(&mut maps, &mut lost, &[policies[0].clone(), changed]).unwrap();
        assert_eq!(report.added, ["db"]);
        assert_eq!(report.removed, ["(slot 3)"]);
        assert_eq!(maps.head(slot_of(&lost, "web")).incarnation, kept);
        assert!(!allows(&maps, slot_of(&lost, "db"), b"/bin/db"));
        assert_eq!(maps.exact.len(), 6, "launcher, two selectors, two rules of web, one of db");
    }

    #[test]
    fn an_image_without_rules_still_has_a_head() {
        let (mut maps, mut store) = (FakeMaps::default(), FakeStore::default());
        put(&mut maps, &mut store, &[bundle("nothing", &[])]).unwrap();
        let head = maps.head(2);
        assert_eq!((head.content & content::EXACT, head.states), (0, 0));
        assert_ne!(head.incarnation, 0);
        assert_eq!(granted(&Bytes(b"/x"), Rights::EXEC, &head, &maps).unwrap().rule, Decision::NO_RULE);
    }
}
