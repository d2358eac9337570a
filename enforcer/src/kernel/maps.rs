//! The pinned maps as the installer sees them: [`Maps`], and [`BpfMaps`], which is the real thing.
//!
//! Sizes of keys and values are checked when a map is opened, so what is read is what the ABI says.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::maps::{
    Array, HashMap, IterableMap, LpmTrie, Map, MapData, MapError as AyaError, MapInfo, RingBuf, lpm_trie,
};
use enforcer_common::{
    abi::{
        ArenaChunk, Binding, COUNTERS as COUNTER_SLOTS, Control, Counter, ExactKey, Grant, Head, Keeper,
        Label, OwnFilter, OwnKey, Pin, PinKey, PortRange, PortSpan, PrefixKey, SLOTS, Slot,
    },
    maps::{self, head_index},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{chain, pod::Wire};
use crate::sys;

/// How many entries each map is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sizes {
    /// Exact names, over all policies and both generations.
    pub exact: u32,
    /// Contents of pinned programs.
    pub pins: u32,
    /// Chunks of automata.
    pub arena: u32,
    /// Network prefixes.
    pub prefixes: u32,
    /// Port ranges.
    pub ports: u32,
    /// Bound cgroups.
    pub bindings: u32,
    /// Bytes of the event ring, a power of two.
    pub events_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            exact: 262_144,
            pins: 65_536,
            arena: 65_536,
            prefixes: 65_536,
            ports: 65_536,
            bindings: 65_536,
            events_bytes: 8 << 20,
        }
    }
}

impl Sizes {
    /// The size of the map with this name, where the configuration says one.
    #[must_use]
    pub fn of(&self, map: &str) -> Option<u32> {
        match map {
            maps::EXACT => Some(self.exact),
            maps::PINS => Some(self.pins),
            maps::ARENA => Some(self.arena),
            maps::PREFIXES => Some(self.prefixes),
            maps::PORTS => Some(self.ports),
            maps::BINDINGS => Some(self.bindings),
            maps::EVENTS => Some(self.events_bytes),
            _ => None,
        }
    }
}

/// A map that did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[error("{operation} of map {map} failed: {source}")]
pub struct MapFault {
    /// The map.
    pub map: &'static str,
    /// What was tried.
    pub operation: Operation,
    /// Why it failed.
    pub source: io::Error,
}

/// What is done to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Removing an entry.
    Remove,
    /// Waiting for running programs.
    Wait,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "reading",
            Self::Write => "writing",
            Self::Remove => "removing an entry",
            Self::Wait => "waiting for the programs",
        })
    }
}

/// A map that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The pin is not there or not readable.
    #[error("cannot open the pinned map {}: {}; is enforcement on? start it with `enforcer run`", path.display(), chain(.source))]
    Pin {
        /// The pin.
        path: PathBuf,
        /// Why.
        source: AyaError,
    },
    /// The map behind the pin is of another layout.
    #[error(
        "the pinned map {} holds {what} of {found} bytes where this program expects {expected}: it was made by \
         another version; remove it with `enforcer unload --yes` and start again", path.display()
    )]
    Layout {
        /// The pin.
        path: PathBuf,
        /// Keys or values.
        what: &'static str,
        /// Size of the pinned map's.
        found: u32,
        /// Size of ours.
        expected: u32,
    },
}

/// The maps that hold policies. A trait so that installation is tested without a kernel, with failures at will.
///
/// Slices are written in order; after an error any part of them may have been written.
pub trait Maps {
    /// How much fits.
    fn sizes(&self) -> Sizes;
    /// The word in force.
    ///
    /// # Errors
    /// [`MapFault`], like all others.
    fn control(&self) -> Result<Control, MapFault>;
    /// Replaces the word in force.
    fn set_control(&mut self, control: &Control) -> Result<(), MapFault>;
    /// All [`SLOTS`] heads of a generation.
    fn heads(&self, generation: u64) -> Result<Vec<Head>, MapFault>;
    /// The head of one slot. `None` if there is no such slot.
    fn head(&self, generation: u64, slot: Slot) -> Result<Option<Head>, MapFault>;
    /// Replaces all heads of a generation.
    fn set_heads(&mut self, generation: u64, heads: &[Head]) -> Result<(), MapFault>;
    /// Every exact name of every table.
    fn exact_keys(&self) -> Result<Vec<ExactKey>, MapFault>;
    /// One exact name.
    fn exact(&self, key: &ExactKey) -> Result<Option<Grant>, MapFault>;
    /// Adds exact names.
    fn insert_exact(&mut self, entries: &[(ExactKey, Grant)]) -> Result<(), MapFault>;
    /// Removes exact names; those not there are skipped.
    fn remove_exact(&mut self, keys: &[ExactKey]) -> Result<(), MapFault>;
    /// Every content of every table.
    fn pins(&self) -> Result<Vec<(PinKey, Pin)>, MapFault>;
    /// Adds contents.
    fn insert_pins(&mut self, entries: &[(PinKey, Pin)]) -> Result<(), MapFault>;
    /// Removes contents; those not there are skipped.
    fn remove_pins(&mut self, keys: &[PinKey]) -> Result<(), MapFault>;
    /// Every prefix of every table.
    fn prefixes(&self) -> Result<Vec<(PrefixKey, PortSpan)>, MapFault>;
    /// Adds prefixes.
    fn insert_prefixes(&mut self, entries: &[(PrefixKey, PortSpan)]) -> Result<(), MapFault>;
    /// Removes prefixes; those not there are skipped.
    fn remove_prefixes(&mut self, keys: &[PrefixKey]) -> Result<(), MapFault>;
    /// Reads a part of the arena.
    fn arena(&self, first: u32, count: u32) -> Result<Vec<ArenaChunk>, MapFault>;
    /// Writes a part of the arena.
    fn set_arena(&mut self, first: u32, chunks: &[ArenaChunk]) -> Result<(), MapFault>;
    /// Reads a part of the port ranges.
    fn ports(&self, first: u32, count: u32) -> Result<Vec<PortRange>, MapFault>;
    /// Writes a part of the port ranges.
    fn set_ports(&mut self, first: u32, ranges: &[PortRange]) -> Result<(), MapFault>;
    /// What a cgroup is bound to.
    fn binding(&self, cgroup: u64) -> Result<Option<Binding>, MapFault>;
    /// Every bound cgroup.
    fn bindings(&self) -> Result<Vec<(u64, Binding)>, MapFault>;
    /// Binds a cgroup.
    fn bind(&mut self, cgroup: u64, binding: Binding) -> Result<(), MapFault>;
    /// Unbinds a cgroup; one not bound is skipped.
    fn unbind(&mut self, cgroup: u64) -> Result<(), MapFault>;
    /// Returns once no program can still be using what was in force when this was called.
    fn wait_for_programs(&mut self) -> Result<(), MapFault>;
}

/// What lies in maps: any bytes are a value.
trait Plain: FromBytes + IntoBytes + Immutable + Copy + 'static {}
impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> Plain for T {}

type ControlMap = Array<MapData, Wire<Control>>;
type HeadMap = Array<MapData, Wire<Head>>;
type ExactMap = HashMap<MapData, Wire<ExactKey>, Wire<Grant>>;
type PinMap = HashMap<MapData, Wire<PinKey>, Wire<Pin>>;
type ArenaMap = Array<MapData, Wire<ArenaChunk>>;
type PrefixMap = LpmTrie<MapData, PrefixData, Wire<PortSpan>>;
type PortMap = Array<MapData, Wire<PortRange>>;
type BindingMap = HashMap<MapData, u64, Wire<Binding>>;
type CounterMap = Array<MapData, u64>;
/// [`PrefixKey`] without its length, which aya keeps apart.
type PrefixData = [u8; size_of::<PrefixKey>() - 4];

/// The pinned maps of the running kernel.
pub struct BpfMaps {
    control: ControlMap,
    heads: HeadMap,
    exact: ExactMap,
    pins: PinMap,
    arena: ArenaMap,
    prefixes: PrefixMap,
    ports: PortMap,
    bindings: BindingMap,
    counters: CounterMap,
    labels: Labels,
    sizes: Sizes,
}

/// What sticks to tasks.
pub struct Labels(MapData);

impl Labels {
    /// Opens the map that is pinned in a directory.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_for(directory, Access::Write)
    }

    fn open_for(directory: &Path, access: Access) -> Result<Self, OpenError> {
        open::<u32, Label>(directory, maps::LABELS, access).map(Self)
    }

    /// The label of a process. `None` if no hook has met it.
    ///
    /// # Errors
    /// [`MapFault`], with `ESRCH` if it is gone.
    pub fn of(&self, process: BorrowedFd<'_>) -> Result<Option<Label>, MapFault> {
        let Self(labels) = self;
        sys::bpf::task_storage(labels.fd().as_fd(), process).map_err(|source| MapFault {
            map: maps::LABELS,
            operation: Operation::Read,
            source,
        })
    }
}

impl BpfMaps {
    /// Opens the maps that are pinned in a directory.
    ///
    /// # Errors
    /// [`OpenError`] for the first that is missing or of another layout.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_for(directory, Access::Write)
    }

    /// The same, to look at: what writes fails.
    ///
    /// # Errors
    /// As [`BpfMaps::open`].
    pub fn open_to_read(directory: &Path) -> Result<Self, OpenError> {
        Self::open_for(directory, Access::Read)
    }

    fn open_for(directory: &Path, access: Access) -> Result<Self, OpenError> {
        let sizes = Sizes {
            exact: capacity(directory, maps::EXACT)?,
            pins: capacity(directory, maps::PINS)?,
            arena: capacity(directory, maps::ARENA)?,
            prefixes: capacity(directory, maps::PREFIXES)?,
            ports: capacity(directory, maps::PORTS)?,
            bindings: capacity(directory, maps::BINDINGS)?,
            events_bytes: capacity(directory, maps::EVENTS)?,
        };
        Ok(Self {
            control: typed::<u32, Control, _>(directory, maps::CONTROL, access, Map::Array)?,
            heads: typed::<u32, Head, _>(directory, maps::HEADS, access, Map::Array)?,
            exact: typed::<ExactKey, Grant, _>(directory, maps::EXACT, access, Map::HashMap)?,
            pins: typed::<PinKey, Pin, _>(directory, maps::PINS, access, Map::HashMap)?,
            arena: typed::<u32, ArenaChunk, _>(directory, maps::ARENA, access, Map::Array)?,
            prefixes: typed::<PrefixKey, PortSpan, _>(directory, maps::PREFIXES, access, Map::LpmTrie)?,
            ports: typed::<u32, PortRange, _>(directory, maps::PORTS, access, Map::Array)?,
            bindings: typed::<u64, Binding, _>(directory, maps::BINDINGS, access, Map::HashMap)?,
            counters: typed::<u32, u64, _>(directory, maps::COUNTERS, access, Map::Array)?,
            labels: Labels::open_for(directory, access)?,
            sizes,
        })
    }

    /// The programs' counters.
    ///
    /// # Errors
    /// [`MapFault`].
    pub fn counters(&self) -> Result<[u64; COUNTER_SLOTS as usize], MapFault> {
        let mut values = [0; COUNTER_SLOTS as usize];
        for (index, value) in (0u32..).zip(values.iter_mut()) {
            *value = self
                .counters
                .get(&index, 0)
                .map_err(|error| fault(maps::COUNTERS, Operation::Read, error))?;
        }
        Ok(values)
    }

    /// One counter.
    ///
    /// # Errors
    /// [`MapFault`].
    pub fn counter(&self, counter: Counter) -> Result<u64, MapFault> {
        self.counters.get(&counter.code(), 0).map_err(|error| fault(maps::COUNTERS, Operation::Read, error))
    }

    /// The label of a process's main thread. `None` if it has none yet, or is gone.
    ///
    /// # Errors
    /// [`MapFault`].
    pub fn label(&self, pid: u32) -> Result<Option<Label>, MapFault> {
        let Ok(process) = sys::pidfd_open(pid) else { return Ok(None) };
        match self.labels.of(process.as_fd()) {
            Err(error) if error.source.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            other => other,
        }
    }
}

impl Maps for BpfMaps {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn control(&self) -> Result<Control, MapFault> {
        self.control
            .get(&0, 0)
            .map(|Wire(control)| control)
            .map_err(|error| fault(maps::CONTROL, Operation::Read, error))
    }

    fn set_control(&mut self, control: &Control) -> Result<(), MapFault> {
        self.control.set(0, Wire(*control), 0).map_err(|error| fault(maps::CONTROL, Operation::Write, error))
    }

    fn heads(&self, generation: u64) -> Result<Vec<Head>, MapFault> {
        read_array(&self.heads, maps::HEADS, head_index(generation, 0), SLOTS)
    }

    fn head(&self, generation: u64, slot: Slot) -> Result<Option<Head>, MapFault> {
        if slot >= SLOTS {
            return Ok(None);
        }
        self.heads
            .get(&head_index(generation, slot), 0)
            .map(|Wire(head)| Some(head))
            .map_err(|error| fault(maps::HEADS, Operation::Read, error))
    }

    fn set_heads(&mut self, generation: u64, heads: &[Head]) -> Result<(), MapFault> {
        write_array(&mut self.heads, maps::HEADS, head_index(generation, 0), heads)
    }

    fn exact_keys(&self) -> Result<Vec<ExactKey>, MapFault> {
        let entries = read_hash(&self.exact, maps::EXACT)?;
        Ok(entries.into_iter().map(|(key, _)| key).collect())
    }

    fn exact(&self, key: &ExactKey) -> Result<Option<Grant>, MapFault> {
        match self.exact.get(&Wire(*key), 0) {
            Ok(Wire(grant)) => Ok(Some(grant)),
            Err(AyaError::KeyNotFound) => Ok(None),
            Err(error) => Err(fault(maps::EXACT, Operation::Read, error)),
        }
    }

    fn insert_exact(&mut self, entries: &[(ExactKey, Grant)]) -> Result<(), MapFault> {
        insert(&mut self.exact, maps::EXACT, entries)
    }

    fn remove_exact(&mut self, keys: &[ExactKey]) -> Result<(), MapFault> {
        remove(&mut self.exact, maps::EXACT, keys)
    }

    fn pins(&self) -> Result<Vec<(PinKey, Pin)>, MapFault> {
        read_hash(&self.pins, maps::PINS)
    }

    fn insert_pins(&mut self, entries: &[(PinKey, Pin)]) -> Result<(), MapFault> {
        insert(&mut self.pins, maps::PINS, entries)
    }

    fn remove_pins(&mut self, keys: &[PinKey]) -> Result<(), MapFault> {
        remove(&mut self.pins, maps::PINS, keys)
    }

    fn prefixes(&self) -> Result<Vec<(PrefixKey, PortSpan)>, MapFault> {
        self.prefixes
            .iter()
            .map(|entry| {
                entry
                    .map(|(key, Wire(span))| (join(&key), span))
                    .map_err(|error| fault(maps::PREFIXES, Operation::Read, error))
            })
            .collect()
    }

    fn insert_prefixes(&mut self, entries: &[(PrefixKey, PortSpan)]) -> Result<(), MapFault> {
        // One by one: few, and a trie takes a lock for each anyway.
        entries
            .iter()
            .try_for_each(|(key, span)| self.prefixes.insert(&split(key), Wire(*span), 0))
            .map_err(|error| fault(maps::PREFIXES, Operation::Write, error))
    }

    fn remove_prefixes(&mut self, keys: &[PrefixKey]) -> Result<(), MapFault> {
        keys.iter()
            .try_for_each(|key| removed(self.prefixes.remove(&split(key))))
            .map_err(|source| MapFault { map: maps::PREFIXES, operation: Operation::Remove, source })
    }

    fn arena(&self, first: u32, count: u32) -> Result<Vec<ArenaChunk>, MapFault> {
        read_array(&self.arena, maps::ARENA, first, count)
    }

    fn set_arena(&mut self, first: u32, chunks: &[ArenaChunk]) -> Result<(), MapFault> {
        write_array(&mut self.arena, maps::ARENA, first, chunks)
    }

    fn ports(&self, first: u32, count: u32) -> Result<Vec<PortRange>, MapFault> {
        read_array(&self.ports, maps::PORTS, first, count)
    }

    fn set_ports(&mut self, first: u32, ranges: &[PortRange]) -> Result<(), MapFault> {
        write_array(&mut self.ports, maps::PORTS, first, ranges)
    }

    fn binding(&self, cgroup: u64) -> Result<Option<Binding>, MapFault> {
        match self.bindings.get(&cgroup, 0) {
            Ok(Wire(binding)) => Ok(Some(binding)),
            Err(AyaError::KeyNotFound) => Ok(None),
            Err(error) => Err(fault(maps::BINDINGS, Operation::Read, error)),
        }
    }

    fn bindings(&self) -> Result<Vec<(u64, Binding)>, MapFault> {
        // By buckets, each under its lock: programs add and remove entries meanwhile, and who goes from key to key leaves
        // out what lies between when the kernel gives the memory of the one it stands on to another.
        sys::bpf::read_hash::<u64, Binding>(descriptor(&self.bindings)).map_err(|error| MapFault {
            map: maps::BINDINGS,
            operation: Operation::Read,
            source: error.source,
        })
    }

    fn bind(&mut self, cgroup: u64, binding: Binding) -> Result<(), MapFault> {
        self.bindings
            .insert(cgroup, Wire(binding), 0)
            .map_err(|error| fault(maps::BINDINGS, Operation::Write, error))
    }

    fn unbind(&mut self, cgroup: u64) -> Result<(), MapFault> {
        removed(self.bindings.remove(&cgroup)).map_err(|source| MapFault {
            map: maps::BINDINGS,
            operation: Operation::Remove,
            source,
        })
    }

    fn wait_for_programs(&mut self) -> Result<(), MapFault> {
        sys::bpf::wait_for_programs().map_err(|source| MapFault {
            map: maps::CONTROL,
            operation: Operation::Wait,
            source,
        })
    }
}

/// The maps that say what is the enforcer's own.
pub struct OwnMaps {
    own: HashMap<MapData, Wire<OwnKey>, u32>,
    filter: Array<MapData, Wire<OwnFilter>>,
    keeper: Array<MapData, Wire<Keeper>>,
}

impl OwnMaps {
    /// Opens the maps that are pinned in a directory.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            own: typed::<OwnKey, u32, _>(directory, maps::OWN, Access::Write, Map::HashMap)?,
            filter: typed::<u32, OwnFilter, _>(directory, maps::OWN_FILTER, Access::Write, Map::Array)?,
            keeper: keeper(directory, Access::Write)?,
        })
    }

    /// Lists this and nothing else. What was listed and still is never is not.
    ///
    /// # Errors
    /// [`MapFault`].
    pub fn replace(&mut self, entries: &BTreeMap<OwnKey, u32>) -> Result<(), MapFault> {
        let mut filter = OwnFilter::default();
        entries.keys().for_each(|key| filter.add(key));
        // While both lists may be met, what either has.
        let mut both = filter;
        let listed = self.listed()?;
        listed.keys().for_each(|key| both.add(key));
        self.set_filter(&both)?;
        // What is listed already is left alone: whoever looks an entry up while it is replaced may find none.
        for (key, bits) in entries.iter().filter(|(key, bits)| listed.get(key) != Some(bits)) {
            let added = self.own.insert(Wire(*key), bits, 0);
            added.map_err(|error| fault(maps::OWN, Operation::Write, error))?;
        }
        for key in listed.keys().filter(|key| !entries.contains_key(key)) {
            removed(self.own.remove(&Wire(*key))).map_err(|source| MapFault {
                map: maps::OWN,
                operation: Operation::Remove,
                source,
            })?;
        }
        self.set_filter(&filter)
    }

    fn listed(&self) -> Result<BTreeMap<OwnKey, u32>, MapFault> {
        let listed = self.own.iter().map(|entry| entry.map(|(Wire(key), bits)| (key, bits)));
        listed.collect::<Result<_, _>>().map_err(|error| fault(maps::OWN, Operation::Read, error))
    }

    fn set_filter(&mut self, filter: &OwnFilter) -> Result<(), MapFault> {
        let set = self.filter.set(0, Wire(*filter), 0);
        set.map_err(|error| fault(maps::OWN_FILTER, Operation::Write, error))
    }

    /// Lists this, too. What is listed stays so.
    ///
    /// # Errors
    /// [`MapFault`].
    pub fn add(&mut self, entries: &BTreeMap<OwnKey, u32>) -> Result<(), MapFault> {
        let mut all = self.listed()?;
        for (key, bits) in entries {
            *all.entry(*key).or_default() |= bits;
        }
        self.replace(&all)
    }

    /// Who the daemon is, and whether it is sealed in.
    ///
    /// # Errors
    /// [`MapFault`].
    pub fn keeper(&self) -> Result<Keeper, MapFault> {
        keeper_in(&self.keeper)
    }

    /// Says who the daemon is, and whether it is sealed in.
    ///
    /// # Errors
    /// [`MapFault`].
    pub fn set_keeper(&mut self, keeper: &Keeper) -> Result<(), MapFault> {
        let set = self.keeper.set(0, Wire(*keeper), 0);
        set.map_err(|error| fault(maps::KEEPER, Operation::Write, error))
    }
}

/// Who the daemon is, and whether it is sealed in, for those who only want to know. `None` where enforcement is off.
///
/// # Errors
/// [`OpenError`]; while sealed the kernel tells nobody but the daemon's program, so that `EPERM` says that it is.
pub fn read_keeper(directory: &Path) -> Result<Option<Keeper>, OpenError> {
    if !directory.join(maps::KEEPER).exists() {
        return Ok(None);
    }
    let map = keeper(directory, Access::Read)?;
    let failed = |fault: MapFault| OpenError::Pin {
        path: directory.join(maps::KEEPER),
        source: AyaError::IoError(fault.source),
    };
    keeper_in(&map).map(Some).map_err(failed)
}

/// Makes this process the daemon of a sealed kernel: whoever runs the daemon's program, and opens this map to write to it, is
/// it from then on.
///
/// # Errors
/// [`OpenError`], with `EPERM` where the kernel does not take the process for one that runs nothing else.
pub fn succeed(directory: &Path) -> Result<(), OpenError> {
    keeper(directory, Access::Write).map(drop)
}

fn keeper(directory: &Path, access: Access) -> Result<Array<MapData, Wire<Keeper>>, OpenError> {
    typed::<u32, Keeper, _>(directory, maps::KEEPER, access, Map::Array)
}

fn keeper_in(map: &Array<MapData, Wire<Keeper>>) -> Result<Keeper, MapFault> {
    let got = map.get(&0, 0).map(|Wire(keeper)| keeper);
    got.map_err(|error| fault(maps::KEEPER, Operation::Read, error))
}

/// What a map is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Opens a pinned map.
fn pinned(path: &Path, access: Access) -> Result<MapData, AyaError> {
    match access {
        Access::Write => MapData::from_pin(path),
        Access::Read => MapData::from_fd(sys::bpf::open_to_read(path)?),
    }
}

/// What the kernel says of a pinned map.
///
/// # Errors
/// From aya.
pub fn info(path: &Path) -> Result<MapInfo, AyaError> {
    pinned(path, Access::Read)?.info()
}

/// Opens the event ring that is pinned in a directory.
///
/// # Errors
/// [`OpenError`].
pub fn open_events(directory: &Path) -> Result<RingBuf<MapData>, OpenError> {
    let path = directory.join(maps::EVENTS);
    MapData::from_pin(&path)
        .and_then(|data| RingBuf::try_from(Map::RingBuf(data)))
        .map_err(|source| OpenError::Pin { path, source })
}

fn capacity(directory: &Path, name: &str) -> Result<u32, OpenError> {
    let path = directory.join(name);
    info(&path).map(|info| info.max_entries()).map_err(|source| OpenError::Pin { path, source })
}

fn open<K, V>(directory: &Path, name: &str, access: Access) -> Result<MapData, OpenError> {
    let path = directory.join(name);
    let pin = |source| OpenError::Pin { path: path.clone(), source };
    let data = pinned(&path, access).map_err(pin)?;
    let info = data.info().map_err(pin)?;
    let sizes = [("keys", info.key_size(), size_of::<K>()), ("values", info.value_size(), size_of::<V>())];
    for (what, found, expected) in sizes {
        let expected = u32::try_from(expected).unwrap_or(u32::MAX);
        if found != expected {
            return Err(OpenError::Layout { path, what, found, expected });
        }
    }
    Ok(data)
}

fn typed<K, V, M>(
    directory: &Path,
    name: &str,
    access: Access,
    wrap: fn(MapData) -> Map,
) -> Result<M, OpenError>
where
    M: TryFrom<Map, Error = AyaError>,
{
    let data = open::<K, V>(directory, name, access)?;
    M::try_from(wrap(data)).map_err(|source| OpenError::Pin { path: directory.join(name), source })
}

fn insert<K: Plain, V: Plain>(
    map: &mut HashMap<MapData, Wire<K>, Wire<V>>,
    name: &'static str,
    entries: &[(K, V)],
) -> Result<(), MapFault> {
    in_portions(name, Operation::Write, entries, |portion| {
        let (keys, values): (Vec<_>, Vec<_>) = portion.iter().copied().unzip();
        match sys::bpf::update_batch(descriptor(map), &keys, &values) {
            Err(error) if error.is_unsupported() => portion
                .iter()
                .try_for_each(|(key, value)| map.insert(Wire(*key), Wire(*value), 0))
                .map_err(io_error),
            other => other.map_err(|error| error.source),
        }
    })
}

fn remove<K: Plain, V: Plain>(
    map: &mut HashMap<MapData, Wire<K>, Wire<V>>,
    name: &'static str,
    keys: &[K],
) -> Result<(), MapFault> {
    in_portions(name, Operation::Remove, keys, |portion| {
        // A batch stops at a key that is not there, so the rest goes one by one.
        match sys::bpf::delete_batch(descriptor(map), portion) {
            Ok(()) => Ok(()),
            Err(error) => portion[error.done.min(portion.len())..]
                .iter()
                .try_for_each(|key| removed(map.remove(&Wire(*key)))),
        }
    })
}

fn write_array<V: Plain>(
    map: &mut Array<MapData, Wire<V>>,
    name: &'static str,
    first: u32,
    values: &[V],
) -> Result<(), MapFault> {
    let entries: Vec<(u32, V)> = (first..).zip(values.iter().copied()).collect();
    in_portions(name, Operation::Write, &entries, |portion| {
        let (keys, values): (Vec<u32>, Vec<V>) = portion.iter().copied().unzip();
        match sys::bpf::update_batch(descriptor(map), &keys, &values) {
            Err(error) if error.is_unsupported() => portion
                .iter()
                .try_for_each(|(index, value)| map.set(*index, Wire(*value), 0))
                .map_err(io_error),
            other => other.map_err(|error| error.source),
        }
    })
}

fn read_array<V: Plain>(
    map: &Array<MapData, Wire<V>>,
    name: &'static str,
    first: u32,
    count: u32,
) -> Result<Vec<V>, MapFault> {
    let mut values = vec![V::new_zeroed(); usize::try_from(count).unwrap_or(usize::MAX)];
    match sys::bpf::read_array(descriptor(map), first, &mut values) {
        Ok(()) => Ok(values),
        Err(error) if error.is_unsupported() => (first..first.saturating_add(count))
            .map(|index| {
                map.get(&index, 0)
                    .map(|Wire(value)| value)
                    .map_err(|error| fault(name, Operation::Read, error))
            })
            .collect(),
        Err(error) => Err(MapFault { map: name, operation: Operation::Read, source: error.source }),
    }
}

/// Every entry. Nobody but the installer, which holds the lock, adds or removes any.
fn read_hash<K: Plain, V: Plain>(
    map: &HashMap<MapData, Wire<K>, Wire<V>>,
    name: &'static str,
) -> Result<Vec<(K, V)>, MapFault> {
    match sys::bpf::read_hash(descriptor(map)) {
        Err(error) if error.is_unsupported() => map
            .iter()
            .map(|entry| {
                let entry = entry.map(|(Wire(key), Wire(value))| (key, value));
                entry.map_err(|error| fault(name, Operation::Read, error))
            })
            .collect(),
        other => {
            other.map_err(|error| MapFault { map: name, operation: Operation::Read, source: error.source })
        }
    }
}

/// Writes or removes a list in portions.
fn in_portions<T>(
    map: &'static str,
    operation: Operation,
    items: &[T],
    mut portion: impl FnMut(&[T]) -> io::Result<()>,
) -> Result<(), MapFault> {
    /// Keeps the copies that batches need small.
    const PORTION: usize = 4096;
    items.chunks(PORTION).try_for_each(&mut portion).map_err(|source| MapFault { map, operation, source })
}

fn descriptor<K: aya::Pod, V, M: IterableMap<K, V>>(map: &M) -> BorrowedFd<'_> {
    map.map().fd().as_fd()
}

/// An entry that is not there is as good as removed.
fn removed(result: Result<(), AyaError>) -> io::Result<()> {
    match result.map_err(io_error) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn io_error(error: AyaError) -> io::Error {
    match error {
        AyaError::SyscallError(error) => error.io_error,
        AyaError::KeyNotFound | AyaError::ElementNotFound => io::ErrorKind::NotFound.into(),
        other => io::Error::other(other),
    }
}

fn fault(map: &'static str, operation: Operation, error: AyaError) -> MapFault {
    MapFault { map, operation, source: io_error(error) }
}

fn split(key: &PrefixKey) -> lpm_trie::Key<PrefixData> {
    let mut data: PrefixData = [0; _];
    data.copy_from_slice(&key.as_bytes()[4..]);
    lpm_trie::Key::new(key.prefix_len, data)
}

fn join(key: &lpm_trie::Key<PrefixData>) -> PrefixKey {
    let data = key.data();
    let (mut table, mut address) = ([0; 4], [0; 16]);
    table.copy_from_slice(&data[..4]);
    address.copy_from_slice(&data[4..]);
    PrefixKey { prefix_len: key.prefix_len(), table: u32::from_ne_bytes(table), address }
}
