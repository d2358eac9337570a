//! An image at a place in the maps: which entries it becomes.
//!
//! The kernel installer and the user-space reference both go through here, so what `explain` says and what the kernel
//! does cannot come from different tables.

use std::collections::HashMap;

use enforcer_common::{
    abi::{ExactKey, Grant, Head, Measure, Pin, PinKey, PortRange, PortSpan, PrefixKey, content, digest_of},
    hash::{Key, hash_of},
};
use zerocopy::IntoBytes as _;

use super::image::PolicyImage;

/// Where in the maps an image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// [`Head::incarnation`]. Not zero, or the slot counts as empty.
    pub incarnation: u32,
    /// Key space in the exact and prefix maps.
    pub table: u32,
    /// First cell of the transitions in the arena.
    pub transitions: u32,
    /// First cell of the accept rows.
    pub accepts: u32,
    /// First of the port ranges.
    pub ports: u32,
}

impl Placement {
    /// At the beginning of every map, transitions before accept rows.
    #[must_use]
    pub fn at_origin(image: &PolicyImage) -> Self {
        let accepts = image.automaton.as_ref().map_or(0, |automaton| count(automaton.transitions.len()));
        Self { incarnation: 1, table: 0, transitions: 0, accepts, ports: 0 }
    }
}

/// How much room an image takes in each map, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Exact names.
    pub exact: u32,
    /// Contents of pinned programs.
    pub pins: u32,
    /// Network prefixes.
    pub prefixes: u32,
    /// Port ranges.
    pub ports: u32,
    /// Cells for the transitions.
    pub transitions: u32,
    /// Cells for the accept rows.
    pub accepts: u32,
}

impl Needs {
    /// Cells in the arena, all together.
    #[must_use]
    pub const fn cells(&self) -> u32 {
        self.transitions.saturating_add(self.accepts)
    }
}

impl PolicyImage {
    /// How much room it takes.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let automaton = self.automaton.as_ref();
        Needs {
            exact: count(self.exact.len()),
            pins: count(self.pins.len()),
            prefixes: count(self.prefixes.len()),
            ports: count(Ports::of(self).ranges.len()),
            transitions: automaton.map_or(0, |automaton| count(automaton.transitions.len())),
            accepts: automaton.map_or(0, |automaton| count(automaton.accepts.len())),
        }
    }
}

/// The head of an image.
#[must_use]
pub fn head(image: &PolicyImage, placement: &Placement) -> Head {
    let bit = |present: bool, bit: u32| if present { bit } else { 0 };
    let plain = Head {
        incarnation: placement.incarnation,
        table: placement.table,
        modes: image.modes,
        switches: image.switches,
        privileges: image.privileges,
        socket_families: image.socket_families,
        netlink: image.netlink,
        content: bit(!image.exact.is_empty(), content::EXACT)
            | bit(!image.prefixes.is_empty(), content::PREFIXES)
            | bit(image.has_interpreters(), content::INTERPRETERS)
            | bit(image.has_pins(Measure::Sha256), content::PINS)
            | bit(image.has_pins(Measure::FsVerity), content::VERITY_PINS),
        ..Head::EMPTY
    };
    match &image.automaton {
        None => plain,
        Some(automaton) => Head {
            transitions: placement.transitions,
            accepts: placement.accepts,
            states: automaton.states(),
            classes: automaton.classes,
            start: automaton.start,
            class_of: automaton.class_of,
            ..plain
        },
    }
}

/// The entries of the exact map.
pub fn exact(
    image: &PolicyImage,
    placement: &Placement,
    key: Key,
) -> impl Iterator<Item = (ExactKey, Grant)> {
    let table = placement.table;
    image.exact.iter().map(move |(name, grant)| (exact_key(table, name, key), *grant))
}

fn exact_key(table: u32, name: &[u8], key: Key) -> ExactKey {
    ExactKey { table, len: count(name.len()), hash: hash_of(key, name) }
}

/// The entries of the map of contents.
pub fn pins(image: &PolicyImage, placement: &Placement, key: Key) -> impl Iterator<Item = (PinKey, Pin)> {
    let table = placement.table;
    image.pins.iter().map(move |((name, measure, digest), rule)| {
        let key = PinKey {
            name: exact_key(table, name, key),
            digest: digest_of(*digest),
            measure: measure.code(),
            reserved: 0,
        };
        (key, Pin { rule: *rule, reserved: 0 })
    })
}

/// The entries of the prefix map.
pub fn prefixes(image: &PolicyImage, placement: &Placement) -> impl Iterator<Item = (PrefixKey, PortSpan)> {
    let placement = *placement;
    let spans = Ports::of(image).spans;
    image.prefixes.keys().zip(spans).map(move |((address, length), span)| {
        let prefix_len = PrefixKey::TABLE_BITS + u32::from(*length);
        let first = placement.ports + span.first;
        (PrefixKey { prefix_len, table: placement.table, address: *address }, PortSpan { first, ..span })
    })
}

/// The port ranges, from [`Placement::ports`] on.
#[must_use]
pub fn ports(image: &PolicyImage) -> Vec<PortRange> {
    Ports::of(image).ranges
}

/// The transitions' cells, from [`Placement::transitions`] on.
pub fn transitions(image: &PolicyImage) -> impl Iterator<Item = u16> {
    image.automaton.iter().flat_map(|automaton| automaton.transitions.iter().copied())
}

/// The accept rows' cells, from [`Placement::accepts`] on.
pub fn accepts(image: &PolicyImage) -> impl Iterator<Item = u16> {
    image.automaton.iter().flat_map(|automaton| automaton.accepts.iter().copied())
}

/// All prefixes' lists end to end. Prefixes with equal lists share one.
struct Ports {
    ranges: Vec<PortRange>,
    /// In the order of the prefixes, relative to the first range.
    spans: Vec<PortSpan>,
}

impl Ports {
    fn of(image: &PolicyImage) -> Self {
        let mut ranges = Vec::new();
        let mut known: HashMap<&[u8], PortSpan> = HashMap::new();
        let mut spans = Vec::with_capacity(image.prefixes.len());
        for list in image.prefixes.values() {
            let next = PortSpan { first: count(ranges.len()), count: count(list.len()) };
            let span = *known.entry(list.as_bytes()).or_insert(next);
            if span == next {
                ranges.extend_from_slice(list);
            }
            spans.push(span);
        }
        Self { ranges, spans }
    }
}

/// Limits of the compiler keep every count far below 2^32.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
