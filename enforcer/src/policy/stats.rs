//! What a policy costs.

use std::time::Duration;

use enforcer_common::{
    abi::{
        ARENA_CHUNK_CELLS, ArenaChunk, ExactKey, Grant, Head, Pin, PinKey, PortRange, PortSpan, PrefixKey,
    },
    maps,
};
use serde_json::{Value, json};

use super::{image::PolicyImage, model::Policy, place::Needs};

/// Sizes of one compiled policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Rules as written.
    pub rules: usize,
    /// Names without wildcards.
    pub exact: u32,
    /// Contents of pinned programs.
    pub pins: u32,
    /// Rules with wildcards.
    pub patterns: usize,
    /// States of the automaton.
    pub states: u32,
    /// Byte classes of the automaton.
    pub classes: u32,
    /// Network prefixes.
    pub prefixes: u32,
    /// Port ranges.
    pub ports: u32,
    /// Kernel memory by map, in bytes.
    pub memory: Vec<(&'static str, u64)>,
    /// How long compilation took.
    pub compile_time: Duration,
}

/// The kernel's `struct htab_elem` without key and value, and its share of the buckets, in bytes.
const HASH_OVERHEAD: usize = 48 + 16;
/// `struct lpm_trie_node` without data and value, in bytes.
const TRIE_OVERHEAD: usize = 40;

impl Stats {
    /// Measures an image.
    #[must_use]
    pub fn of(policy: &Policy, image: &PolicyImage, compile_time: Duration) -> Self {
        let needs = image.needs();
        Self {
            rules: policy.rules.len()
                + policy.switches.len()
                + policy.families.len()
                + policy.privileges.len(),
            exact: needs.exact,
            pins: needs.pins,
            patterns: policy.objects.iter().filter(|rule| rule.glob.literal().is_none()).count(),
            states: image.automaton.as_ref().map_or(0, super::image::Automaton::states),
            classes: image.automaton.as_ref().map_or(0, |automaton| automaton.classes),
            prefixes: needs.prefixes,
            ports: needs.ports,
            memory: memory(&needs),
            compile_time,
        }
    }

    /// Kernel memory of all maps, in KiB, rounded up.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        self.memory.iter().map(|(_, bytes)| bytes).sum::<u64>().div_ceil(1024)
    }

    /// Compile time in milliseconds.
    #[must_use]
    pub fn compile_ms(&self) -> f64 {
        self.compile_time.as_secs_f64() * 1000.0
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let memory: serde_json::Map<String, Value> =
            self.memory.iter().map(|(map, bytes)| ((*map).to_owned(), json!(bytes.div_ceil(1024)))).collect();
        json!({
            "rules": self.rules,
            "exact_names": self.exact,
            "pins": self.pins,
            "patterns": self.patterns,
            "states": self.states,
            "classes": self.classes,
            "prefixes": self.prefixes,
            "port_ranges": self.ports,
            "memory_kib": memory,
            "memory_total_kib": self.memory_kib(),
            "compile_ms": (self.compile_ms() * 1000.0).round() / 1000.0,
        })
    }
}

/// While a policy is in force. During a swap the old and the new one are both held, besides the heads, which exist for
/// both generations always.
fn memory(needs: &Needs) -> Vec<(&'static str, u64)> {
    let bytes = |count: u32, size: usize| u64::from(count) * size as u64;
    let exact = HASH_OVERHEAD + size_of::<ExactKey>() + size_of::<Grant>();
    // Every entry of a trie may need an inner node besides.
    let prefix = 2 * (TRIE_OVERHEAD + size_of::<PrefixKey>() - size_of::<u32>()) + size_of::<PortSpan>();
    vec![
        (maps::HEADS, bytes(2, size_of::<Head>())),
        (maps::EXACT, bytes(needs.exact, exact)),
        (maps::PINS, bytes(needs.pins, HASH_OVERHEAD + size_of::<PinKey>() + size_of::<Pin>())),
        (maps::ARENA, bytes(needs.cells().div_ceil(ARENA_CHUNK_CELLS), size_of::<ArenaChunk>())),
        (maps::PREFIXES, bytes(needs.prefixes, prefix)),
        (maps::PORTS, bytes(needs.ports, size_of::<PortRange>())),
    ]
}
