//! Desired beside observed: what the state file says was installed, and what the kernel has.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::SystemTime,
};

use enforcer_common::{
    abi::{Binding, Counter, State},
    verdict::{Family, Mode},
};
use serde::Serialize;

use crate::{
    admission::{Places, Standing, records},
    bundle::statement::Seal,
    cgroups::Hierarchy,
    events::text,
    kernel::{
        btf::KernelTypes,
        install::observe,
        load::{available_hooks, object_digest},
        maps::{BpfMaps, Maps as _, read_keeper},
        pin::{LinkSet, Pins},
        state::{PolicyRecord, Snapshot, StateFile, StateStore as _},
    },
    session::DaemonLock,
};

/// The state of enforcement.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Whether everything is as it should be.
    pub healthy: bool,
    /// What is not.
    pub problems: Vec<String>,
    /// Whether programs are attached.
    pub enforcing: bool,
    /// Whether a daemon runs.
    pub daemon: bool,
    /// The generation in force.
    pub generation: Option<u64>,
    /// What was admitted and is in force, if it was signed.
    pub standing: Option<Standing>,
    /// The seal; none if the machine is not sealed.
    pub seal: Option<Sealed>,
    /// Links.
    pub links: Links,
    /// Policies.
    pub policies: Vec<PolicyStatus>,
    /// The programs' counters.
    pub counters: BTreeMap<&'static str, u64>,
    /// How full the maps are.
    pub room: BTreeMap<&'static str, Room>,
}

/// A machine that is sealed: nobody but the daemon changes what is the enforcer's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// Since when, in nanoseconds since boot.
    pub since_boot_ns: u64,
    /// SHA-256 of the statement that sealed it.
    pub statement: String,
    /// The version of the bundle in force.
    pub version: u64,
    /// The daemon's process, or that of the last one.
    pub daemon: u32,
}

/// Attached programs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Links {
    /// Hooks that should have a program.
    pub expected: usize,
    /// Hooks that have one of this program's.
    pub attached: usize,
    /// Those without.
    pub missing: Vec<&'static str>,
    /// Sets of links that are not this program's: another version's.
    pub others: Vec<String>,
}

/// One policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyStatus {
    /// Its name.
    pub name: String,
    /// Whether the kernel has what the state file says.
    pub in_force: bool,
    /// Its slot.
    pub slot: u32,
    /// Its incarnation.
    pub incarnation: u32,
    /// How it was proved genuine.
    pub trust: String,
    /// Where it came from.
    pub origin: String,
    /// SHA-256 of its bytes.
    pub digest: String,
    /// Mode by family.
    pub modes: BTreeMap<&'static str, &'static str>,
    /// Cgroups bound to it, by path; those that are gone meanwhile by id.
    pub cgroups: Vec<String>,
    /// Processes in these cgroups whose label is this policy's.
    pub tasks: usize,
    /// Processes in these cgroups that no hook has met yet, or that are still entering.
    pub unlabelled: usize,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Entries in use.
    pub used: u64,
    /// Entries there are.
    pub size: u64,
}

/// Looks. Changes nothing, and never fails: what cannot be looked at is a problem.
#[must_use]
pub fn look(runtime: &Path, pins: &Pins) -> Status {
    let mut status = Status { daemon: DaemonLock::is_held(runtime), ..Status::default() };
    look_at_links(pins, &mut status);
    look_at_seal(pins, &mut status);
    match BpfMaps::open_to_read(&pins.maps()) {
        Ok(maps) => look_at_maps(&maps, runtime, &mut status),
        Err(error) => status.problems.push(error.to_string()),
    }
    let places = Places { runtime: runtime.to_owned(), ..Places::default() };
    look_at_platform(&places, &mut status);
    status.healthy = status.problems.is_empty();
    status
}

/// What was admitted, and what the daemon found out about the platform since.
fn look_at_platform(places: &Places, status: &mut Status) {
    match records::standing(places) {
        Ok(standing) => status.standing = standing,
        Err(error) => status.problems.push(error.to_string()),
    }
    let asks = status.standing.as_ref().and_then(|standing| standing.seal);
    if asks == Some(Seal::On) && status.seal.is_none() {
        status.problems.push(
            "what is in force asks for the seal, and the machine is not sealed; the daemon's log says why"
                .to_owned(),
        );
    }
    if status.standing.as_ref().is_some_and(|standing| standing.is_expired(SystemTime::now())) {
        status.problems.push("what is in force has expired; sign a new version".to_owned());
    }
    match records::alarm(places) {
        Ok(Some(alarm)) => status.problems.push(format!("ALARM ({}): {}", alarm.reason, alarm.message)),
        Ok(None) => {}
        Err(error) => status.problems.push(error.to_string()),
    }
}

/// Whether the machine is sealed, and should be.
fn look_at_seal(pins: &Pins, status: &mut Status) {
    match read_keeper(&pins.maps()) {
        Ok(keeper) => {
            status.seal = keeper.filter(|keeper| keeper.is_sealed()).map(|keeper| Sealed {
                since_boot_ns: keeper.since,
                statement: hex::encode(keeper.statement),
                version: keeper.version,
                daemon: keeper.process,
            });
        }
        Err(error) => status.problems.push(format!("whether the machine is sealed cannot be told: {error}")),
    }
}

fn look_at_links(pins: &Pins, status: &mut Status) {
    let expected = match KernelTypes::of_running_kernel().map_err(|error| error.to_string()) {
        Ok(types) => available_hooks(&types).map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    let expected = expected.unwrap_or_else(|error| {
        status.problems.push(error);
        Vec::new()
    });
    let ours = pins.control_id().map(|id| pins.link_set(object_digest(), id));
    let attached = ours.as_ref().map(LinkSet::attached).unwrap_or_default();
    let others = pins.link_sets().unwrap_or_else(|error| {
        status.problems.push(error.to_string());
        Vec::new()
    });
    let others: Vec<LinkSet> = others.into_iter().filter(|set| Some(set) != ours.as_ref()).collect();
    let missing: Vec<&str> =
        expected.iter().filter(|hook| !attached.contains(hook)).map(|hook| hook.name()).collect();
    let foreign = others.iter().any(|set| !set.attached().is_empty());
    status.enforcing = !attached.is_empty() || foreign;
    if !status.enforcing {
        status
            .problems
            .push("enforcement is off: no program is attached; start it with `enforcer run`".to_owned());
    } else if attached.is_empty() {
        status.problems.push(
            "the attached programs are another version's; restart the daemon to replace them".to_owned(),
        );
    } else if !missing.is_empty() {
        status.problems.push(format!("hooks without a program: {}; restart the daemon", missing.join(", ")));
    }
    status.links = Links {
        expected: expected.len(),
        attached: attached.len(),
        missing,
        others: others.iter().map(LinkSet::name).collect(),
    };
}

fn look_at_maps(maps: &BpfMaps, runtime: &Path, status: &mut Status) {
    if let Err(error) = try_look_at_maps(maps, runtime, status) {
        status.problems.push(error);
    }
}

fn try_look_at_maps(maps: &BpfMaps, runtime: &Path, status: &mut Status) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let store = StateFile::in_directory(runtime);
    let control = maps.control().map_err(|error| text(&error))?;
    status.generation = Some(control.generation);
    let counters = maps.counters().map_err(|error| text(&error))?;
    let value = |counter: &Counter| counters.get(counter.code() as usize).copied().unwrap_or(0);
    status.counters = Counter::ALL.iter().map(|counter| (counter.name(), value(counter))).collect();

    let observed = observe(maps, &store).map_err(|error| text(&error))?;
    let desired = match &observed {
        Some(snapshot) => snapshot.clone(),
        None => store.load().map_err(|error| text(&error))?.map(|state| state.installed).unwrap_or_default(),
    };
    if observed.is_none() && control.generation != 0 {
        status.problems.push(
            "the state file does not describe what is in force; install again with `enforcer apply` or a reload"
                .to_owned(),
        );
    }
    let heads = maps.heads(control.generation).map_err(|error| text(&error))?;
    let bindings = maps.bindings().map_err(|error| text(&error))?;
    let tree = tree(maps, &bindings);
    status.room = room(maps, &desired, bindings.len());
    for policy in &desired.policies {
        let in_force =
            heads.get(policy.slot as usize).is_some_and(|head| head.incarnation == policy.incarnation);
        if !in_force {
            status.problems.push(format!("policy {} should be in force and is not", policy.name));
        }
        status.policies.push(policy_status(policy, in_force, &tree));
    }
    Ok(())
}

/// A bound cgroup and what is in it.
struct BoundCgroup {
    binding: Binding,
    path: String,
    labels: Vec<Option<enforcer_common::abi::Label>>,
}

fn tree(maps: &BpfMaps, bindings: &[(u64, Binding)]) -> Vec<BoundCgroup> {
    let hierarchy = Hierarchy::find().ok();
    let cgroups = hierarchy.as_ref().and_then(|hierarchy| hierarchy.walk().ok()).unwrap_or_default();
    let paths: BTreeMap<u64, &[u8]> =
        cgroups.iter().map(|cgroup| (cgroup.id, cgroup.path.as_slice())).collect();
    let bound = |(id, binding): &(u64, Binding)| {
        let path = paths.get(id).copied();
        let pids: BTreeSet<u32> = match (path, &hierarchy) {
            (Some(path), Some(hierarchy)) => hierarchy.processes(path).into_iter().collect(),
            _ => BTreeSet::new(),
        };
        BoundCgroup {
            binding: *binding,
            path: path.map_or_else(|| format!("(gone) id {id}"), text::from_bytes),
            labels: pids.iter().map(|pid| maps.label(*pid).ok().flatten()).collect(),
        }
    };
    bindings.iter().map(bound).collect()
}

fn policy_status(policy: &PolicyRecord, in_force: bool, tree: &[BoundCgroup]) -> PolicyStatus {
    let ours = |slot: u32, incarnation: u32| slot == policy.slot && incarnation == policy.incarnation;
    let bound: Vec<&BoundCgroup> =
        tree.iter().filter(|cgroup| ours(cgroup.binding.slot, cgroup.binding.incarnation)).collect();
    let labels = || bound.iter().flat_map(|cgroup| &cgroup.labels);
    let armed = |label: &&Option<enforcer_common::abi::Label>| {
        label.is_some_and(|label| label.state == State::Armed.code() && ours(label.slot, label.incarnation))
    };
    let tasks = labels().filter(armed).count();
    let mode = |family: &Family| {
        let code = policy.modes.get(usize::from(family.code())).copied().unwrap_or(0);
        Mode::from_code(code).map_or("unknown", Mode::name)
    };
    PolicyStatus {
        name: policy.name.clone(),
        in_force,
        slot: policy.slot,
        incarnation: policy.incarnation,
        trust: policy.trust.clone(),
        origin: policy.origin.clone(),
        digest: policy.digest.clone(),
        modes: Family::ALL.iter().map(|family| (family.name(), mode(family))).collect(),
        cgroups: bound.iter().map(|cgroup| cgroup.path.clone()).collect(),
        tasks,
        unlabelled: labels().count() - tasks,
    }
}

fn room(maps: &BpfMaps, snapshot: &Snapshot, bindings: usize) -> BTreeMap<&'static str, Room> {
    let sizes = maps.sizes();
    let sum = |of: fn(&crate::kernel::state::TableRecord) -> u32| -> u64 {
        snapshot.tables.iter().map(|table| u64::from(of(table))).sum()
    };
    BTreeMap::from([
        ("exact", Room { used: sum(|table| table.exact), size: sizes.exact.into() }),
        ("pins", Room { used: sum(|table| table.pins), size: sizes.pins.into() }),
        ("arena", Room { used: sum(|table| table.arena.count), size: sizes.arena.into() }),
        ("prefixes", Room { used: sum(|table| table.prefixes), size: sizes.prefixes.into() }),
        ("ports", Room { used: sum(|table| table.ports.count), size: sizes.ports.into() }),
        ("bindings", Room { used: u64::try_from(bindings).unwrap_or(u64::MAX), size: sizes.bindings.into() }),
    ])
}
