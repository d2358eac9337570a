//! Maps in memory, for tests: they fail when told to. And machines that are a few files.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs, io,
    sync::atomic::{AtomicUsize, Ordering},
};

use enforcer_common::{
    abi::{
        ARENA_CHUNK_CELLS, ArenaChunk, Binding, Control, ExactKey, Grant, Head, Pin, PinKey, PortRange,
        PortSpan, PrefixKey, SLOTS, Slot, arena_place,
    },
    decide::{Step, Tables},
    hash::Key,
    maps::{self as names, head_index},
    rights::Rights,
};

use super::{
    maps::{MapFault, Maps, Operation, Sizes},
    place::{Contents, Placement},
    state::{State, StateError, StateStore},
};
use crate::policy::image::PolicyImage;

/// A root directory with these files.
pub(crate) fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// An image of exact names.
pub(crate) fn image_of(name: &str, exact: &[(&[u8], Rights)]) -> PolicyImage {
    let grants = (0..).zip(exact).map(|(rule, (name, rights))| {
        (name.to_vec(), Grant { rights: rights.0, min_trust: 0, on_low: 0, rule })
    });
    let mut image = PolicyImage::empty(name.to_owned());
    image.exact = grants.collect();
    image
}

/// What was done to the maps, for tests of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Control(u64),
    Heads(u64),
    Table(u32),
    Removed(u32),
    Waited,
    Bound(u64),
    Unbound(u64),
}

/// The fake.
#[derive(Clone)]
pub(crate) struct FakeMaps {
    pub(crate) control: Control,
    pub(crate) heads: Vec<Head>,
    pub(crate) exact: BTreeMap<ExactKey, Grant>,
    pub(crate) pins: BTreeMap<PinKey, Pin>,
    pub(crate) prefixes: BTreeMap<PrefixKey, PortSpan>,
    pub(crate) arena: Vec<ArenaChunk>,
    pub(crate) ports: Vec<PortRange>,
    pub(crate) bindings: BTreeMap<u64, Binding>,
    pub(crate) sizes: Sizes,
    pub(crate) log: Vec<Did>,
    /// The number of the element write that fails, counted from 1.
    pub(crate) fail_at: Option<usize>,
    pub(crate) writes: usize,
}

const NO_RANGE: PortRange = PortRange { low: 0, high: 0, flows: 0, rule: 0, reserved: 0 };
const NO_CHUNK: ArenaChunk = ArenaChunk { cells: [0; ARENA_CHUNK_CELLS as usize] };

impl Default for FakeMaps {
    fn default() -> Self {
        let sizes = Sizes {
            exact: 64,
            pins: 16,
            arena: 64,
            prefixes: 32,
            ports: 32,
            bindings: 32,
            events_bytes: 4096,
        };
        Self {
            control: Control { generation: 0, bind_epoch: 0, reserved: 0, hash_key: [3, 4] },
            heads: vec![Head::EMPTY; 2 * SLOTS as usize],
            exact: BTreeMap::new(),
            pins: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            arena: vec![NO_CHUNK; sizes.arena as usize],
            ports: vec![NO_RANGE; sizes.ports as usize],
            bindings: BTreeMap::new(),
            sizes,
            log: Vec::new(),
            fail_at: None,
            writes: 0,
        }
    }
}

/// All that a program can see: the word, the heads in force, and whatever they lead to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    control: Control,
    heads: Vec<Head>,
    exact: BTreeMap<ExactKey, Grant>,
    pins: BTreeMap<PinKey, Pin>,
    prefixes: BTreeMap<PrefixKey, (PortSpan, Vec<PortRange>)>,
    cells: Vec<Vec<u16>>,
}

impl FakeMaps {
    pub(crate) fn view(&self) -> View {
        let from = head_index(self.control.generation, 0) as usize;
        let heads = self.heads[from..from + SLOTS as usize].to_vec();
        let cells = heads.iter().filter(|head| head.states != 0).map(|head| {
            let end = head.accepts + head.states * enforcer_common::abi::ACCEPT_CELLS;
            (head.transitions..end).map(|cell| self.cell(cell.into()).unwrap()).collect()
        });
        let ranges = |span: &PortSpan| self.ports[span.first as usize..][..span.count as usize].to_vec();
        View {
            control: self.control,
            exact: self.exact.clone(),
            pins: self.pins.clone(),
            prefixes: self.prefixes.iter().map(|(key, span)| (*key, (*span, ranges(span)))).collect(),
            cells: cells.collect(),
            heads,
        }
    }

    pub(crate) fn fill(&mut self, contents: &Contents, at: Placement) {
        self.set_arena(at.arena, &contents.arena).unwrap();
        self.exact.extend(contents.exact.iter().copied());
        self.pins.extend(contents.pins.iter().copied());
    }

    pub(crate) fn head(&self, slot: u32) -> Head {
        self.heads[head_index(self.control.generation, slot) as usize]
    }

    fn write(&mut self, map: &'static str, operation: Operation) -> Result<(), MapFault> {
        self.writes += 1;
        if self.fail_at == Some(self.writes) {
            return Err(MapFault { map, operation, source: io::Error::from_raw_os_error(libc::ENOMEM) });
        }
        Ok(())
    }
}

impl Maps for FakeMaps {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn control(&self) -> Result<Control, MapFault> {
        Ok(self.control)
    }

    fn set_control(&mut self, control: &Control) -> Result<(), MapFault> {
        self.write(names::CONTROL, Operation::Write)?;
        self.control = *control;
        self.log.push(Did::Control(control.generation));
        Ok(())
    }

    fn heads(&self, generation: u64) -> Result<Vec<Head>, MapFault> {
        let from = head_index(generation, 0) as usize;
        Ok(self.heads[from..from + SLOTS as usize].to_vec())
    }

    fn head(&self, generation: u64, slot: Slot) -> Result<Option<Head>, MapFault> {
        Ok((slot < SLOTS).then(|| self.heads[head_index(generation, slot) as usize]))
    }

    fn set_heads(&mut self, generation: u64, heads: &[Head]) -> Result<(), MapFault> {
        assert_ne!(generation & 1, self.control.generation & 1, "heads in force must not be touched");
        let from = head_index(generation, 0) as usize;
        for (index, head) in heads.iter().enumerate() {
            // Failing at each of thousands of empty heads would add nothing.
            if head.incarnation != 0 {
                self.write(names::HEADS, Operation::Write)?;
            }
            self.heads[from + index] = *head;
        }
        self.log.push(Did::Heads(generation));
        Ok(())
    }

    fn exact_keys(&self) -> Result<Vec<ExactKey>, MapFault> {
        Ok(self.exact.keys().copied().collect())
    }

    fn exact(&self, key: &ExactKey) -> Result<Option<Grant>, MapFault> {
        Ok(self.exact.get(key).copied())
    }

    fn insert_exact(&mut self, entries: &[(ExactKey, Grant)]) -> Result<(), MapFault> {
        for (key, grant) in entries {
            self.write(names::EXACT, Operation::Write)?;
            self.exact.insert(*key, *grant);
            assert!(self.exact.len() <= self.sizes.exact as usize, "the capacity proof failed");
            self.log.push(Did::Table(key.table));
        }
        Ok(())
    }

    fn remove_exact(&mut self, keys: &[ExactKey]) -> Result<(), MapFault> {
        for key in keys {
            self.write(names::EXACT, Operation::Remove)?;
            if self.exact.remove(key).is_some() {
                self.log.push(Did::Removed(key.table));
            }
        }
        Ok(())
    }

    fn pins(&self) -> Result<Vec<(PinKey, Pin)>, MapFault> {
        Ok(self.pins.iter().map(|(key, pin)| (*key, *pin)).collect())
    }

    fn insert_pins(&mut self, entries: &[(PinKey, Pin)]) -> Result<(), MapFault> {
        for (key, pin) in entries {
            self.write(names::PINS, Operation::Write)?;
            self.pins.insert(*key, *pin);
            assert!(self.pins.len() <= self.sizes.pins as usize, "the capacity proof failed");
            self.log.push(Did::Table(key.name.table));
        }
        Ok(())
    }

    fn remove_pins(&mut self, keys: &[PinKey]) -> Result<(), MapFault> {
        for key in keys {
            self.write(names::PINS, Operation::Remove)?;
            if self.pins.remove(key).is_some() {
                self.log.push(Did::Removed(key.name.table));
            }
        }
        Ok(())
    }

    fn prefixes(&self) -> Result<Vec<(PrefixKey, PortSpan)>, MapFault> {
        Ok(self.prefixes.iter().map(|(key, span)| (*key, *span)).collect())
    }

    fn insert_prefixes(&mut self, entries: &[(PrefixKey, PortSpan)]) -> Result<(), MapFault> {
        for (key, span) in entries {
            self.write(names::PREFIXES, Operation::Write)?;
            self.prefixes.insert(*key, *span);
            self.log.push(Did::Table(key.table));
        }
        Ok(())
    }

    fn remove_prefixes(&mut self, keys: &[PrefixKey]) -> Result<(), MapFault> {
        for key in keys {
            self.write(names::PREFIXES, Operation::Remove)?;
            if self.prefixes.remove(key).is_some() {
                self.log.push(Did::Removed(key.table));
            }
        }
        Ok(())
    }

    fn arena(&self, first: u32, count: u32) -> Result<Vec<ArenaChunk>, MapFault> {
        Ok(self.arena[first as usize..][..count as usize].to_vec())
    }

    fn set_arena(&mut self, first: u32, chunks: &[ArenaChunk]) -> Result<(), MapFault> {
        for (index, chunk) in chunks.iter().enumerate() {
            self.write(names::ARENA, Operation::Write)?;
            self.arena[first as usize + index] = *chunk;
        }
        Ok(())
    }

    fn ports(&self, first: u32, count: u32) -> Result<Vec<PortRange>, MapFault> {
        Ok(self.ports[first as usize..][..count as usize].to_vec())
    }

    fn set_ports(&mut self, first: u32, ranges: &[PortRange]) -> Result<(), MapFault> {
        for (index, range) in ranges.iter().enumerate() {
            self.write(names::PORTS, Operation::Write)?;
            self.ports[first as usize + index] = *range;
        }
        Ok(())
    }

    fn binding(&self, cgroup: u64) -> Result<Option<Binding>, MapFault> {
        Ok(self.bindings.get(&cgroup).copied())
    }

    fn bindings(&self) -> Result<Vec<(u64, Binding)>, MapFault> {
        Ok(self.bindings.iter().map(|(id, binding)| (*id, *binding)).collect())
    }

    fn bind(&mut self, cgroup: u64, binding: Binding) -> Result<(), MapFault> {
        self.write(names::BINDINGS, Operation::Write)?;
        self.bindings.insert(cgroup, binding);
        self.log.push(Did::Bound(cgroup));
        Ok(())
    }

    fn unbind(&mut self, cgroup: u64) -> Result<(), MapFault> {
        self.write(names::BINDINGS, Operation::Remove)?;
        self.bindings.remove(&cgroup);
        self.log.push(Did::Unbound(cgroup));
        Ok(())
    }

    fn wait_for_programs(&mut self) -> Result<(), MapFault> {
        self.write(names::CONTROL, Operation::Wait)?;
        self.log.push(Did::Waited);
        Ok(())
    }
}

impl Tables for FakeMaps {
    fn exact(&self, key: &ExactKey) -> Option<Grant> {
        self.exact.get(key).copied()
    }

    fn pin(&self, key: &PinKey) -> Option<Pin> {
        self.pins.get(key).copied()
    }

    fn cell(&self, index: u64) -> Option<u16> {
        let (chunk, within) = arena_place(index)?;
        self.arena.get(chunk as usize)?.cells.get(within).copied()
    }

    fn prefix(&self, _: &PrefixKey) -> Option<PortSpan> {
        None
    }

    fn port(&self, index: u32) -> Option<PortRange> {
        self.ports.get(index as usize).copied()
    }

    fn hash_key(&self) -> Key {
        Key(self.control.hash_key)
    }

    fn repeat<S: Step>(&self, times: u32, step: &mut S) {
        let _ = (0..times).try_for_each(|index| step.step(index));
    }
}

/// State in memory. `fail_at` as in [`FakeMaps`].
#[derive(Default)]
pub(crate) struct FakeStore {
    pub(crate) state: Option<State>,
    pub(crate) fail_at: Option<usize>,
    pub(crate) saves: AtomicUsize,
}

impl StateStore for FakeStore {
    fn load(&self) -> Result<Option<State>, StateError> {
        Ok(self.state.clone())
    }

    fn save(&mut self, state: &State) -> Result<(), StateError> {
        let number = self.saves.fetch_add(1, Ordering::Relaxed) + 1;
        if self.fail_at == Some(number) {
            let source = io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(StateError::Write { path: "/run/enforcer/state.json".into(), source });
        }
        self.state = Some(state.clone());
        Ok(())
    }
}
