//! What the compiler makes of a policy: the contents of the maps, before anyone decided where in the maps they go.

use std::{collections::BTreeMap, fmt::Write as _};

use enforcer_common::{
    abi::{ACCEPT_CELLS, Grant, Measure, PortRange},
    hook::Privilege,
    net::Flow,
    rights::Rights,
    verdict::{FAMILY_SLOTS, Family, Mode},
};
use sha2::{Digest as _, Sha256};

use super::{
    families::{self, SocketFamily},
    model::Switch,
    net::address_of,
};

/// One policy, compiled. Equal policies give equal images, byte for byte.
///
/// An image is position independent: `table`, `transitions`, `accepts` and the spans' `first` are the installer's to
/// choose, and exact names are hashed only then, under the installation's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyImage {
    /// The policy's name.
    pub name: String,
    /// [`enforcer_common::verdict::Mode`] codes by family.
    pub modes: [u8; FAMILY_SLOTS],
    /// [`enforcer_common::abi::switch`] bits.
    pub switches: u32,
    /// [`enforcer_common::hook::Privilege`] bits.
    pub privileges: u32,
    /// Bit *n*: address family *n*.
    pub socket_families: u64,
    /// Bit *n*: netlink protocol *n*.
    pub netlink: u32,
    /// Exact names and what they grant, with everything the patterns grant on the same name folded in.
    pub exact: BTreeMap<Vec<u8>, Grant>,
    /// The contents that pinned programs may have, by name and digest, with the (first) rule that lists each.
    pub pins: BTreeMap<(Vec<u8>, Measure, [u8; 32]), u32>,
    /// The automaton of the patterns; absent when there are none.
    pub automaton: Option<Automaton>,
    /// Network prefixes (address, bits 0..=128; v4 as v4-mapped) and their port ranges: sorted, disjoint, with those
    /// of every covering prefix folded in. An empty list ends what a shorter prefix allows.
    pub prefixes: BTreeMap<([u8; 16], u8), Vec<PortRange>>,
    /// The rules as written, by index, for people.
    pub rules: Vec<RuleText>,
}

/// A table-driven automaton over bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automaton {
    /// Byte class of each byte.
    pub class_of: [u8; 256],
    /// Number of classes.
    pub classes: u32,
    /// Start state. State 0 is dead.
    pub start: u32,
    /// `states × classes` next states, row by row.
    pub transitions: Vec<u16>,
    /// `states ×` [`enforcer_common::abi::ACCEPT_CELLS`].
    pub accepts: Vec<u16>,
}

/// Where a rule came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// What it says, e.g. `file.read "/etc/nginx/**"`.
    pub text: String,
    /// Line in the policy file, from 1.
    pub line: u32,
}

impl Automaton {
    /// Number of states, with the dead one.
    #[must_use]
    pub fn states(&self) -> u32 {
        u32::try_from(self.accepts.len()).unwrap_or(u32::MAX) / ACCEPT_CELLS
    }

    /// What a name that ends in `state` is granted.
    #[must_use]
    pub fn grant(&self, state: u32) -> Option<Grant> {
        let row = (state * ACCEPT_CELLS) as usize;
        let cells: [u16; ACCEPT_CELLS as usize] =
            self.accepts.get(row..row + ACCEPT_CELLS as usize)?.try_into().ok()?;
        let [rights, trust, low, high] = cells;
        let [min_trust, on_low] = trust.to_le_bytes();
        (rights != 0).then_some(Grant {
            rights,
            min_trust,
            on_low,
            rule: u32::from(low) | u32::from(high) << 16,
        })
    }
}

/// The accept row of a state.
#[must_use]
pub fn accept_row(grant: Option<&Grant>) -> [u16; ACCEPT_CELLS as usize] {
    grant.map_or([0; ACCEPT_CELLS as usize], |grant| {
        let [a, b, c, d] = grant.rule.to_le_bytes();
        [
            grant.rights,
            u16::from_le_bytes([grant.min_trust, grant.on_low]),
            u16::from_le_bytes([a, b]),
            u16::from_le_bytes([c, d]),
        ]
    })
}

impl PolicyImage {
    /// An image that allows nothing.
    #[must_use]
    pub fn empty(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            modes: [0; FAMILY_SLOTS],
            switches: 0,
            privileges: 0,
            socket_families: 0,
            netlink: 0,
            exact: BTreeMap::new(),
            pins: BTreeMap::new(),
            automaton: None,
            prefixes: BTreeMap::new(),
            rules: Vec::new(),
        }
    }

    /// Whether a rule names interpreters.
    #[must_use]
    pub fn has_interpreters(&self) -> bool {
        let is_interpreter = |grant: Grant| grant.rights().contains(Rights::INTERPRETER);
        self.exact.values().copied().any(is_interpreter)
            || self.automaton.as_ref().is_some_and(|automaton| {
                (0..automaton.states()).filter_map(|state| automaton.grant(state)).any(is_interpreter)
            })
    }

    /// Whether it pins programs by this kind of digest.
    #[must_use]
    pub fn has_pins(&self, wanted: Measure) -> bool {
        self.pins.keys().any(|(_, measure, _)| *measure == wanted)
    }

    /// The one binary form: little endian, lengths before contents. For digests, not for storage.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(b"enforcer image 3\n".to_vec());
        out.bytes(self.name.as_bytes());
        out.0.extend(self.modes);
        out.u32(self.switches);
        out.u32(self.privileges);
        out.0.extend(self.socket_families.to_le_bytes());
        out.u32(self.netlink);
        self.write_tables(&mut out);
        out.len(self.rules.len());
        for rule in &self.rules {
            out.bytes(rule.text.as_bytes());
            out.u32(rule.line);
        }
        out.0
    }

    /// SHA-256 of [`Self::to_bytes`].
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// SHA-256 of what goes into the shared tables. Images that agree on it can share one table.
    #[must_use]
    pub fn tables_digest(&self) -> [u8; 32] {
        let mut out = Writer(b"enforcer tables 3\n".to_vec());
        self.write_tables(&mut out);
        Sha256::digest(out.0).into()
    }

    fn write_tables(&self, out: &mut Writer) {
        out.len(self.exact.len());
        for (name, grant) in &self.exact {
            out.bytes(name);
            out.u16s(&accept_row(Some(grant)));
        }
        out.len(self.pins.len());
        for ((name, measure, digest), rule) in &self.pins {
            out.bytes(name);
            out.u32(measure.code());
            out.0.extend(digest);
            out.u32(*rule);
        }
        match &self.automaton {
            None => out.len(0),
            Some(automaton) => {
                out.u32(automaton.states());
                out.u32(automaton.classes);
                out.u32(automaton.start);
                out.0.extend(automaton.class_of);
                out.u16s(&automaton.transitions);
                out.u16s(&automaton.accepts);
            }
        }
        out.len(self.prefixes.len());
        for ((address, length), ranges) in &self.prefixes {
            out.0.extend(address);
            out.0.push(*length);
            out.len(ranges.len());
            for range in ranges {
                out.u16s(&[range.low, range.high]);
                [range.flows, range.rule, range.reserved].into_iter().for_each(|word| out.u32(word));
            }
        }
    }

    /// A form for people and golden files. Every difference between images shows.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("image {}\ndigest {}\n", self.name, hex::encode(self.digest()));
        let modes = Family::ALL.iter().map(|family| {
            let mode = Mode::from_code(self.modes[usize::from(family.code())]).map_or("?", Mode::name);
            format!("{family}={mode}")
        });
        line(&mut text, "modes", modes);
        let switches = Switch::ALL.iter().filter(|switch| self.switches & switch.bit() != 0);
        line(&mut text, "switches", switches.map(|switch| format!("{}.{}", switch.key().0, switch.key().1)));
        let privileges = Privilege::ALL.iter().filter(|privilege| self.privileges & privilege.bit() != 0);
        line(&mut text, "privileges", privileges.map(|privilege| privilege.name().to_owned()));
        let families = families::NAMES.iter().filter(|(name, _)| {
            SocketFamily::from_name(name).is_some_and(|family| {
                let (bits, protocol) = (family.bit(), family.netlink_bit());
                (bits != 0 && self.socket_families & bits == bits) || self.netlink & protocol != 0
            })
        });
        line(&mut text, "families", families.map(|(name, _)| (*name).to_owned()));
        for (index, rule) in self.rules.iter().enumerate() {
            let _ = writeln!(text, "rule {index} line {} {}", rule.line, rule.text);
        }
        for (name, grant) in &self.exact {
            let _ = writeln!(text, "exact {:?} {}", Shown(name), granted(grant));
        }
        for ((name, measure, digest), rule) in &self.pins {
            let _ = writeln!(text, "pin {:?} {measure} {} rule {rule}", Shown(name), hex::encode(digest));
        }
        if let Some(automaton) = &self.automaton {
            automaton.write_text(&mut text);
        }
        for ((address, length), ranges) in &self.prefixes {
            let _ = writeln!(text, "prefix {}", prefix_text(*address, *length));
            for range in ranges {
                let flows: Vec<_> = Flow::NAMES
                    .iter()
                    .filter(|(flow, _)| range.flows & flow.0 != 0)
                    .map(|(_, name)| *name)
                    .collect();
                let _ = writeln!(
                    text,
                    "  ports {}-{} {} rule {}",
                    range.low,
                    range.high,
                    flows.join("+"),
                    range.rule
                );
            }
        }
        text
    }
}

impl Automaton {
    fn write_text(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "automaton states {} classes {} start {}",
            self.states(),
            self.classes,
            self.start
        );
        for class in 0..self.classes {
            let members = (0..=255u8).filter(|byte| u32::from(self.class_of[usize::from(*byte)]) == class);
            let _ = writeln!(text, "  class {class} {}", byte_ranges(&members.collect::<Vec<_>>()));
        }
        for state in 0..self.states() {
            let width = self.classes as usize;
            let row = self
                .transitions
                .get(state as usize * width..(state as usize + 1) * width)
                .unwrap_or_default();
            let moves: Vec<String> = row
                .iter()
                .enumerate()
                .filter(|(_, next)| **next != 0)
                .map(|(class, next)| format!("{class}>{next}"))
                .collect();
            let accepted = self.grant(state).map(|grant| format!(" {}", granted(&grant))).unwrap_or_default();
            let _ = writeln!(text, "  state {state}{accepted} {}", moves.join(" "));
        }
    }
}

fn line(text: &mut String, key: &str, words: impl Iterator<Item = String>) {
    let words: Vec<String> = words.collect();
    if !words.is_empty() {
        let _ = writeln!(text, "{key} {}", words.join(" "));
    }
}

fn granted(grant: &Grant) -> String {
    let rights: Vec<_> = Rights(grant.rights).names().collect();
    format!("{} rule {}", rights.join("+"), grant.rule)
}

fn prefix_text(address: [u8; 16], length: u8) -> String {
    match (address_of(address), length.checked_sub(96)) {
        (std::net::IpAddr::V4(address), Some(length)) => format!("{address}/{length}"),
        _ => format!("{}/{length}", std::net::Ipv6Addr::from(address)),
    }
}

/// `a-z 0x2f`, lowest first.
fn byte_ranges(members: &[u8]) -> String {
    let mut ranges: Vec<(u8, u8)> = Vec::new();
    for byte in members {
        match ranges.last_mut() {
            Some((_, high)) if high.checked_add(1) == Some(*byte) => *high = *byte,
            _ => ranges.push((*byte, *byte)),
        }
    }
    let shown = |byte: u8| {
        if byte.is_ascii_graphic() { char::from(byte).to_string() } else { format!("{byte:#04x}") }
    };
    let shown_range = |(low, high): &(u8, u8)| {
        if low == high { shown(*low) } else { format!("{}-{}", shown(*low), shown(*high)) }
    };
    ranges.iter().map(shown_range).collect::<Vec<_>>().join(" ")
}

/// Bytes as a quoted string.
struct Shown<'a>(&'a [u8]);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn len(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.0.extend(bytes);
    }

    fn u16s(&mut self, values: &[u16]) {
        values.iter().for_each(|value| self.0.extend(value.to_le_bytes()));
    }
}
