//! Every map. What each is for, who writes it and how its entries look is said once, in [`enforcer_common::maps`] and
//! [`enforcer_common::abi`]. The sizes here are placeholders: the loader sets them from its configuration.

use core::{ffi::c_void, marker::PhantomData, ptr};

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC,
        bpf_map_type::{BPF_MAP_TYPE_INODE_STORAGE, BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_TASK_STORAGE},
    },
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, RingBuf},
};
use enforcer_common::{
    abi::{
        ArenaChunk, Binding, COUNTERS as COUNTER_SLOTS, Control, ExactKey, Grant, Head, Label, Pin, PinKey,
        PortRange, PortSpan, SLOTS, SocketLabel,
    },
    maps::{DIRECT_ATTACHES, DIRECT_CONTROL},
};

pub static CONTROL: DirectMap<Control, { DIRECT_CONTROL.marker }> = DirectMap::new();
pub static ATTACHES: DirectMap<u32, { DIRECT_ATTACHES.marker }> = DirectMap::new();
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
pub static BINDINGS: HashMap<u64, Binding> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
#[map]
pub static COUNTERS: Array<u64> = Array::with_max_entries(COUNTER_SLOTS, 0);
#[btf_map]
pub static LABELS: TaskStorage<Label> = TaskStorage::new();
#[btf_map]
pub static SOCKETS: SocketStorage<SocketLabel> = SocketStorage::new();
#[btf_map]
pub static SCRATCH: TaskStorage<crate::name::Scratch> = TaskStorage::new();
#[btf_map]
pub static ALLOWED: InodeStorage<crate::cache::Allowed> = InodeStorage::new();
#[map]
pub static SEEN: Array<u64> = Array::with_max_entries(crate::cache::SEEN_SLOTS, 0);

/// An array of one value, whose address is a constant ([`enforcer_common::maps::Direct`]).
pub struct DirectMap<T, const MARKER: u64>(PhantomData<T>);

impl<T, const MARKER: u64> DirectMap<T, MARKER> {
    const fn new() -> Self {
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

/// A local storage map, which aya-ebpf 0.2 lacks for tasks: the BTF map definition and a getter.
#[repr(C)]
pub struct LocalStorage<T, const TYPE: usize, const FLAGS: usize> {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

/// What sticks to a task.
pub type TaskStorage<T> =
    LocalStorage<T, { BPF_MAP_TYPE_TASK_STORAGE as usize }, { BPF_F_NO_PREALLOC as usize }>;
/// What sticks to a socket.
pub type SocketStorage<T> =
    LocalStorage<T, { BPF_MAP_TYPE_SK_STORAGE as usize }, { BPF_F_NO_PREALLOC as usize }>;
/// What sticks to an inode.
pub type InodeStorage<T> =
    LocalStorage<T, { BPF_MAP_TYPE_INODE_STORAGE as usize }, { BPF_F_NO_PREALLOC as usize }>;

// SAFETY: the fields only carry types for BTF; nothing ever reads through them.
unsafe impl<T, const TYPE: usize, const FLAGS: usize> Sync for LocalStorage<T, TYPE, FLAGS> {}

impl<T, const TYPE: usize, const FLAGS: usize> LocalStorage<T, TYPE, FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// The map as helpers want it.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}
