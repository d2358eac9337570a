//! Names of what the programs and the loader share inside the BPF object.
//!
//! Each map is pinned under this name in `…/v{ABI_VERSION}/maps/`. Kernel object names hold 15 bytes.

/// Array of one [`crate::abi::Control`]. Written by user space.
pub const CONTROL: &str = "CONTROL";
/// Array of 2 × [`crate::abi::SLOTS`] [`crate::abi::Head`]s: the even generations', then the odd ones'. Written by
/// user space, only in the half that is not in force.
pub const HEADS: &str = "HEADS";
/// Hash of [`crate::abi::ExactKey`] to [`crate::abi::Grant`]. Written by user space.
pub const EXACT: &str = "EXACT";
/// Hash of [`crate::abi::PinKey`] to [`crate::abi::Pin`]: the contents that pinned programs may have. Written by user
/// space.
pub const PINS: &str = "PINS";
/// Array of [`crate::abi::ArenaChunk`]s: automata. Written by user space, only in parts no head in force refers to.
pub const ARENA: &str = "ARENA";
/// LPM trie of [`crate::abi::PrefixKey`] to [`crate::abi::PortSpan`]. Written by user space.
pub const PREFIXES: &str = "PREFIXES";
/// Array of [`crate::abi::PortRange`]s. Written by user space, like the arena.
pub const PORTS: &str = "PORTS";
/// Hash of cgroup id (`u64`) to [`crate::abi::Binding`]. Written by the programs at mkdir and rmdir, and by user
/// space for cgroups that were there before.
pub const BINDINGS: &str = "BINDINGS";
/// Task storage of [`crate::abi::Label`]s. Written by the programs.
pub const LABELS: &str = "LABELS";
/// Hash of a task's address (`u64`) to its [`crate::abi::Label`], where [`LOSES_LABELS`] says so. Written by the programs.
pub const KEPT: &str = "KEPT";
/// Task storage of scratch memory. Used by the programs.
pub const SCRATCH: &str = "SCRATCH";
/// Inode storage of allows that are remembered. Used by the programs.
pub const ALLOWED: &str = "ALLOWED";
/// Array of dentries that were decided about, by a hash of the address. Used by the programs.
pub const SEEN: &str = "SEEN";
/// Ring buffer of [`crate::event`] records. Written by the programs.
pub const EVENTS: &str = "EVENTS";
/// Socket storage of [`crate::abi::SocketLabel`]s. Written by the programs.
pub const SOCKETS: &str = "SOCKETS";
/// Array of one `u32`: how often a task was moved into a bound cgroup. Written by the programs, apart from
/// [`CONTROL`], so that neither side can overwrite the other's increments.
pub const ATTACHES: &str = "ATTACHES";
/// Array of [`crate::abi::COUNTERS`] `u64` counters, indexed by [`crate::abi::Counter`]. Written by the programs.
pub const COUNTERS: &str = "COUNTERS";
/// Hash of [`crate::abi::OwnKey`] to bits of [`crate::abi::own`]: what is the enforcer's own. Written by user space.
pub const OWN: &str = "OWN";
/// Array of one [`crate::abi::OwnFilter`], which has every inode that is in [`OWN`]. Written by user space.
pub const OWN_FILTER: &str = "OWN_FILTER";
/// Array of one [`crate::abi::Keeper`]. Written by the daemon, but for the credentials, and while sealed who it is.
pub const KEEPER: &str = "KEEPER";

/// Every map that is pinned.
pub const PINNED: &[&str] = &[
    CONTROL, HEADS, EXACT, PINS, ARENA, PREFIXES, PORTS, BINDINGS, LABELS, KEPT, SCRATCH, SOCKETS, ALLOWED,
    SEEN, EVENTS, ATTACHES, COUNTERS, OWN, OWN_FILTER, KEEPER,
];

/// An array of one value, of which the programs know the address: they hold a marker in its place, and the loader has it
/// mean the value. That takes one instruction; a look-up takes thirteen, twice in every program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Its name.
    pub name: &'static str,
    /// Stands for the value's address.
    pub marker: u64,
    /// Bytes of the value.
    pub size: usize,
}

impl Direct {
    /// The marker as an instruction has it, in two halves.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "halves")]
    pub const fn marker_halves(&self) -> [u32; 2] {
        [self.marker as u32, (self.marker >> 32) as u32]
    }
}

/// [`CONTROL`].
pub const DIRECT_CONTROL: Direct =
    Direct { name: CONTROL, marker: 0x7ead_d0c0_7ead_0001, size: size_of::<crate::abi::Control>() };
/// [`ATTACHES`].
pub const DIRECT_ATTACHES: Direct =
    Direct { name: ATTACHES, marker: 0x7ead_d0c0_7ead_0002, size: size_of::<u32>() };
/// [`KEEPER`].
pub const DIRECT_KEEPER: Direct =
    Direct { name: KEEPER, marker: 0x7ead_d0c0_7ead_0003, size: size_of::<crate::abi::Keeper>() };
/// All of them.
pub const DIRECT: &[Direct] = &[DIRECT_CONTROL, DIRECT_ATTACHES, DIRECT_KEEPER];

/// Read-only global: `u64`, the address of the kernel's `rename_lock`, a sequence lock.
pub const RENAME_LOCK: &str = "RENAME_LOCK";
/// Read-only global: `u64`, the address of the kernel's `mount_lock`, a sequence lock.
pub const MOUNT_LOCK: &str = "MOUNT_LOCK";
/// Read-only global: `u64`, the address of the kernel's `init_pid_ns`, by which the host's first process is found.
pub const INIT_PID_NS: &str = "INIT_PID_NS";
/// Read-only global: `u32`, the type id of `struct pt_regs`, which is nothing but words, so that memory which is cast to it
/// can be read by plain loads; 0 if the kernel casts no pointers for programs (before 6.2).
pub const WORDS_TYPE: &str = "WORDS_TYPE";
/// Read-only global: `u32`, inode number of the host's mount namespace (`/proc/1/ns/mnt`).
pub const HOST_MNT_NS: &str = "HOST_MNT_NS";

/// Read-only global: `u32`, not 0 if allows are remembered.
pub const REMEMBERS: &str = "REMEMBERS";

/// Read-only global: `u32`, not 0 if a fork that fails may free what sticks to the parent, so that labels are kept in
/// [`KEPT`], too. Kernels do so that let a child have the parent's `bpf_storage` until `copy_process` can fail no more
/// for want of credentials or of room for another process (before "bpf,fork: wipe `->bpf_storage` before bailouts that
/// access it", of 2026).
pub const LOSES_LABELS: &str = "LOSES_LABELS";

/// The index of a slot's head in [`HEADS`].
#[inline(always)]
#[must_use]
pub const fn head_index(generation: u64, slot: crate::abi::Slot) -> u32 {
    (generation & 1) as u32 * crate::abi::SLOTS + slot
}
