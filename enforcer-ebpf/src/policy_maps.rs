//! The maps that [`crate::tables`] reads: what user space makes of policies, and the counters. See [`crate::maps`] for
//! what holds for all maps.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie},
};
use enforcer_common::abi::{
    ArenaChunk, COUNTERS as COUNTER_SLOTS, Control, ExactKey, Grant, Head, Pin, PinKey, PortRange, PortSpan,
    SLOTS,
};

#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);
#[map]
pub static HEADS: Array<Head> = Array::with_max_entries(2 * SLOTS, 0);
#[map]
pub static EXACT: HashMap<ExactKey, Grant> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static PINS: HashMap<PinKey, Pin> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static ARENA: Array<ArenaChunk> = Array::with_max_entries(1024, 0);
#[map]
pub static PREFIXES: LpmTrie<PrefixData, PortSpan> = LpmTrie::with_max_entries(1024, 0);
#[map]
pub static PORTS: Array<PortRange> = Array::with_max_entries(1024, 0);
#[map]
pub static COUNTERS: Array<u64> = Array::with_max_entries(COUNTER_SLOTS, 0);

/// [`enforcer_common::abi::PrefixKey`] without its prefix length, which `aya_ebpf`'s trie key adds.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PrefixData {
    pub table: u32,
    pub address: [u8; 16],
}
