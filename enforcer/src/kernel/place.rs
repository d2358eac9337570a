//! Where in the maps a [`PolicyImage`] goes, and what it becomes there.
//!
//! Pure. [`crate::policy::place`] knows the entries; this adds what only the kernel's maps have: chunks of the arena,
//! and tables that several policies share.
#![forbid(unsafe_code)]

use enforcer_common::{
    abi::{
        ARENA_CHUNK_CELLS, ArenaChunk, ExactKey, Grant, Head, Pin, PinKey, PortRange, PortSpan, PrefixKey,
    },
    hash::Key,
};
use sha2::{Digest as _, Sha256};
use zerocopy::IntoBytes as _;

use crate::policy::{image::PolicyImage, place};

/// A run of elements in a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// Index of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Span {
    /// Index after the last.
    #[must_use]
    pub const fn end(self) -> u32 {
        self.first.saturating_add(self.count)
    }
}

/// Where an image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Key space in the exact and prefix maps.
    pub table: u32,
    /// First chunk in the arena.
    pub arena: u32,
    /// First port range.
    pub ports: u32,
}

/// How much room an image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Exact names.
    pub exact: u32,
    /// Contents of pinned programs.
    pub pins: u32,
    /// Chunks of the arena.
    pub arena: u32,
    /// Prefixes.
    pub prefixes: u32,
    /// Port ranges.
    pub ports: u32,
}

/// What an image becomes in the maps: everything but its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// For the exact map.
    pub exact: Vec<(ExactKey, Grant)>,
    /// For the map of contents.
    pub pins: Vec<(PinKey, Pin)>,
    /// For the arena, from the placement's first chunk on.
    pub arena: Vec<ArenaChunk>,
    /// For the trie.
    pub prefixes: Vec<(PrefixKey, PortSpan)>,
    /// For the port ranges, from the placement's first on.
    pub ports: Vec<PortRange>,
}

impl Placement {
    fn of_entries(self, image: &PolicyImage, incarnation: u32) -> place::Placement {
        let transitions = self.arena.saturating_mul(ARENA_CHUNK_CELLS);
        place::Placement {
            incarnation,
            table: self.table,
            transitions,
            accepts: transitions.saturating_add(image.needs().transitions),
            ports: self.ports,
        }
    }
}

/// The room that an image takes.
#[must_use]
pub fn needs(image: &PolicyImage) -> Needs {
    let needs = image.needs();
    Needs {
        exact: needs.exact,
        pins: needs.pins,
        arena: needs.cells().div_ceil(ARENA_CHUNK_CELLS),
        prefixes: needs.prefixes,
        ports: needs.ports,
    }
}

/// The map entries of an image.
#[must_use]
pub fn contents(image: &PolicyImage, at: Placement, key: Key) -> Contents {
    let at = at.of_entries(image, 0);
    Contents {
        exact: place::exact(image, &at, key).collect(),
        pins: place::pins(image, &at, key).collect(),
        arena: chunks(place::transitions(image).chain(place::accepts(image)).collect()),
        prefixes: place::prefixes(image, &at).collect(),
        ports: place::ports(image),
    }
}

/// The head of an image.
#[must_use]
pub fn head(image: &PolicyImage, at: Placement, incarnation: u32) -> Head {
    place::head(image, &at.of_entries(image, incarnation))
}

/// Tells images apart by what they put into the tables. Name, modes and switches live in the head and do not count.
#[must_use]
pub fn digest(image: &PolicyImage) -> String {
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(bytes);
    };
    put(b"exact");
    for (name, grant) in &image.exact {
        put(name);
        put(grant.as_bytes());
    }
    put(b"pins");
    for ((name, measure, digest), rule) in &image.pins {
        put(name);
        put(&measure.code().to_le_bytes());
        put(digest);
        put(&rule.to_le_bytes());
    }
    put(b"automaton");
    if let Some(automaton) = &image.automaton {
        put(&automaton.class_of);
        put(&automaton.classes.to_le_bytes());
        put(&automaton.start.to_le_bytes());
        put(automaton.transitions.as_slice().as_bytes());
        put(automaton.accepts.as_slice().as_bytes());
    }
    put(b"prefixes");
    for ((address, bits), ranges) in &image.prefixes {
        put(address);
        put(&[*bits]);
        put(ranges.as_slice().as_bytes());
    }
    hex::encode(hash.finalize())
}

fn chunks(cells: Vec<u16>) -> Vec<ArenaChunk> {
    const CHUNK: usize = ARENA_CHUNK_CELLS as usize;
    cells
        .chunks(CHUNK)
        .map(|part| {
            let mut chunk = ArenaChunk { cells: [0; CHUNK] };
            chunk.cells[..part.len()].copy_from_slice(part);
            chunk
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use enforcer_common::{
        abi::ACCEPT_CELLS,
        decide::{Bytes, granted},
        rights::Rights,
    };

    use super::*;
    use crate::{
        kernel::testing::{FakeMaps, image_of},
        policy::image::Automaton,
    };

    const AT: Placement = Placement { table: 9, arena: 3, ports: 40 };

    #[test]
    fn equal_port_lists_are_stored_once() {
        let range = |low| PortRange { low, high: low, flows: 1, rule: 0, reserved: 0 };
        let mut image = image_of("web", &[]);
        image.prefixes = BTreeMap::from([
            (([1; 16], 128), vec![range(80), range(443)]),
            (([2; 16], 128), vec![range(443)]),
            (([3; 16], 128), vec![range(80), range(443)]),
        ]);
        let placed = contents(&image, AT, Key([1, 2]));
        assert_eq!(placed.ports.len(), 3);
        assert_eq!(needs(&image).ports, 3);
        let spans: Vec<_> = placed.prefixes.iter().map(|(_, span)| (span.first, span.count)).collect();
        assert_eq!(spans, [(40, 2), (42, 1), (40, 2)]);
        assert!(placed.prefixes.iter().all(|(key, _)| key.table == 9 && key.prefix_len == 160));
    }

    #[test]
    fn a_placed_image_decides_as_written() {
        let mut image = image_of("web", &[(b"/bin/true", Rights::EXEC)]);
        // `/a*`: see the automaton of the decision core's tests.
        let mut class_of = [0; 256];
        class_of[usize::from(b'/')] = 1;
        class_of[usize::from(b'a')] = 2;
        image.automaton = Some(Automaton {
            class_of,
            classes: 3,
            start: 1,
            transitions: vec![0, 0, 0, 0, 2, 0, 0, 0, 3, 3, 0, 3],
            accepts: [[0; ACCEPT_CELLS as usize]; 3].concat().into_iter().chain([4, 0, 5, 0]).collect(),
        });
        let mut maps = FakeMaps::default();
        let key = maps.control.hash_key;
        maps.fill(&contents(&image, AT, Key(key)), AT);
        let head = head(&image, AT, 1);
        let rights = |name: &[u8]| granted(&Bytes(name), Rights(u16::MAX), &head, &maps).unwrap().rights();
        assert_eq!(rights(b"/bin/true"), Rights::EXEC);
        assert_eq!(rights(b"/abc"), Rights::READ);
        assert_eq!(rights(b"/bin/false"), Rights::NONE);
    }

    #[test]
    fn digests_follow_the_tables_only() {
        let one = image_of("one", &[(b"/bin/true", Rights::EXEC)]);
        let mut two = image_of("two", &[(b"/bin/true", Rights::EXEC)]);
        two.modes[0] = 1;
        two.switches = 7;
        assert_eq!(digest(&one), digest(&two));
        assert_ne!(digest(&one), digest(&image_of("one", &[(b"/bin/true", Rights::READ)])));
        assert_ne!(digest(&one), digest(&image_of("one", &[(b"/bin/tru", Rights::EXEC)])));
    }
}
