//! Every map. What each is for, who writes it and how its entries look is said once, in [`enforcer_common::maps`] and
//! [`enforcer_common::abi`]. The sizes here are placeholders: the loader sets them from its configuration.
//!
//! Those that [`crate::tables`] reads are in [`crate::policy_maps`], which other programs than these have, too.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC,
        bpf_map_type::{BPF_MAP_TYPE_INODE_STORAGE, BPF_MAP_TYPE_SK_STORAGE, BPF_MAP_TYPE_TASK_STORAGE},
    },
    macros::{btf_map, map},
    maps::{Array, HashMap, RingBuf},
};
use enforcer_common::{
    abi::{Binding, Keeper, Label, OwnFilter, OwnKey, SocketLabel},
    maps::{DIRECT_ATTACHES, DIRECT_KEEPER},
};

use crate::policy_maps::DirectMap;
pub use crate::policy_maps::{ARENA, CONTROL, COUNTERS, EXACT, HEADS, PINS, PORTS, PREFIXES, PrefixData};

pub static ATTACHES: DirectMap<u32, { DIRECT_ATTACHES.marker }> = DirectMap::new();
pub static KEEPER: DirectMap<Keeper, { DIRECT_KEEPER.marker }> = DirectMap::new();

#[map]
pub static BINDINGS: HashMap<u64, Binding> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
#[map]
pub static OWN: HashMap<OwnKey, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);
#[map]
pub static OWN_FILTER: Array<OwnFilter> = Array::with_max_entries(1, 0);
#[btf_map]
pub static LABELS: TaskStorage<Label> = TaskStorage::new();
#[map]
pub static KEPT: HashMap<u64, Label> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[btf_map]
pub static SOCKETS: SocketStorage<SocketLabel> = SocketStorage::new();
#[btf_map]
pub static SCRATCH: TaskStorage<crate::name::Scratch> = TaskStorage::new();
#[btf_map]
pub static ALLOWED: InodeStorage<crate::cache::Allowed> = InodeStorage::new();
#[map]
pub static SEEN: Array<u64> = Array::with_max_entries(crate::cache::SEEN_SLOTS, 0);

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
