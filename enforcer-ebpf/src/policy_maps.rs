//! The maps that [`crate::tables`] reads: what user space makes of policies, and the counters. See [`crate::maps`] for
//! what holds for all maps.

use core::marker::PhantomData;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LpmTrie},
};
use enforcer_common::{
    abi::{
        ArenaChunk, COUNTERS as COUNTER_SLOTS, Control, ExactKey, Grant, Head, Pin, PinKey, PortRange,
        PortSpan, SLOTS,
    },
    maps::DIRECT_CONTROL,
};

pub static CONTROL: DirectMap<Control, { DIRECT_CONTROL.marker }> = DirectMap::new();
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

/// An array of one value, whose address is a constant ([`enforcer_common::maps::Direct`]).
pub struct DirectMap<T, const MARKER: u64>(PhantomData<T>);

impl<T, const MARKER: u64> DirectMap<T, MARKER> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }

    /// Where the value lies, for good. User space and other programs write there.
    #[inline(always)]
    pub fn address(&self) -> *mut T {
        let address: *mut T;
        // SAFETY: loads a constant.
        unsafe {
            core::arch::asm!("{address} = {marker} ll", address = out(reg) address, marker = const MARKER, options(pure, nomem, nostack));
        }
        address
    }
}

/// [`enforcer_common::abi::PrefixKey`] without its prefix length, which `aya_ebpf`'s trie key adds.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PrefixData {
    pub table: u32,
    pub address: [u8; 16],
}
