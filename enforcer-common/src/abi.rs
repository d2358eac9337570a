//! Map keys and values.
//!
//! Fixed-width integers only, no padding (the derives prove it), and sizes asserted beside each type. User space
//! writes policy state, BPF programs write task and cgroup state; who writes which map is said in
//! `enforcer-ebpf/src/maps.rs`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{rights::Rights, verdict::FAMILY_SLOTS};

/// Part of the pin path. Any change to a type in this module, [`crate::event`] or [`crate::verdict`] that an older
/// program would misread raises it.
pub const ABI_VERSION: u32 = 7;

/// Longest name the kernel hands out (`PATH_MAX`), in bytes.
pub const PATH_MAX: u32 = 4096;
/// Longest component of a path (`NAME_MAX`), in bytes.
pub const NAME_MAX: u32 = 255;

/// A policy slot: an index into the heads. Labels and bindings refer to a policy by it.
pub type Slot = u32;

/// Programs that set workloads up for the host (`systemd`, `runc`, …), as `exec` rules.
pub const SLOT_LAUNCHERS: Slot = 0;
/// Cgroup paths; the rule index of a match is the slot that the cgroup is bound to. A match grants [`SELECTS`], one of a
/// base policy [`SELECTS_BASE`] as well.
pub const SLOT_SELECTORS: Slot = 1;
/// What a matching selector grants.
pub const SELECTS: Rights = Rights::EXEC;
/// What a matching selector of a base policy grants on top of it.
pub const SELECTS_BASE: Rights = Rights::CREATE;
/// The first slot of a policy.
pub const SLOT_FIRST_POLICY: Slot = 2;
/// How many slots each generation has.
pub const SLOTS: u32 = 4096;

/// The word that says which generation is in force, and what else is true of the whole installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// The generation in force. Its parity selects the half of the heads that is read; user space stores it with one
    /// eight-byte write, which is the whole swap.
    pub generation: u64,
    /// Grows whenever bindings change for cgroups that may already hold tasks. A host label older than this is
    /// looked up again.
    pub bind_epoch: u32,
    /// Zero.
    pub reserved: u32,
    /// Key of [`crate::hash::Sip`].
    pub hash_key: [u64; 2],
}

/// One policy as the programs see it, in one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    /// Which policy occupies the slot, over all generations. Zero: none. A label or binding that carries another
    /// incarnation is stale.
    pub incarnation: u32,
    /// Key space of the policy's rules in the exact and prefix maps. Policies with equal rules share one.
    pub table: u32,
    /// [`crate::verdict::Mode`] codes, indexed by [`crate::verdict::Family`].
    pub modes: [u8; FAMILY_SLOTS],
    /// [`switch`] bits.
    pub switches: u32,
    /// [`crate::hook::Privilege`] bits.
    pub privileges: u32,
    /// Bit *n* allows `socket(2)` of address family *n* (`AF_*` < 63) with stream, datagram or seqpacket type; bit 63 is
    /// [`crate::net::MPTCP_BIT`].
    pub socket_families: u64,
    /// Where the automaton's transitions start in the arena, in cells.
    pub transitions: u32,
    /// Where the automaton's accept cells start in the arena.
    pub accepts: u32,
    /// Number of states, including the dead state 0. Zero: the policy has no patterns.
    pub states: u32,
    /// Number of byte classes.
    pub classes: u32,
    /// Start state.
    pub start: u32,
    /// [`content`] bits: what the tables hold at all, so that a hook can skip a look-up that cannot hit.
    pub content: u32,
    /// Bit *n* allows netlink sockets of protocol *n*.
    pub netlink: u32,
    /// Zero.
    pub reserved: u32,
    /// Byte class of each byte value.
    pub class_of: [u8; 256],
}

impl Head {
    /// A slot that no policy occupies.
    pub const EMPTY: Self = Self {
        incarnation: 0,
        table: 0,
        modes: [0; FAMILY_SLOTS],
        switches: 0,
        privileges: 0,
        socket_families: 0,
        transitions: 0,
        accepts: 0,
        states: 0,
        classes: 0,
        start: 0,
        content: 0,
        netlink: 0,
        reserved: 0,
        class_of: [0; 256],
    };
}

/// Bits of [`Head::switches`].
pub mod switch {
    /// Anonymous executable memory is allowed (JIT compilers).
    pub const ANONYMOUS_EXEC: u32 = 1 << 0;
    /// Deleted files and memfds may be re-opened for reading and writing.
    pub const UNLINKED_FILES: u32 = 1 << 1;
    /// Deleted files and memfds may be executed and mapped executable.
    pub const UNLINKED_EXEC: u32 = 1 << 2;
    /// Raw sockets of a listed family are allowed.
    pub const RAW_SOCKETS: u32 = 1 << 3;
}

/// Bits of [`Head::content`].
pub mod content {
    /// There are exact names.
    pub const EXACT: u32 = 1 << 0;
    /// There are network prefixes.
    pub const PREFIXES: u32 = 1 << 1;
    /// There are interpreters.
    pub const INTERPRETERS: u32 = 1 << 2;
    /// There are programs that are pinned to the SHA-256 of their contents.
    pub const PINS: u32 = 1 << 3;
    /// There are programs that are pinned to fs-verity digests.
    pub const VERITY_PINS: u32 = 1 << 4;
}

/// What one rule, or several on the same name together, grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Grant {
    /// [`Rights`] bits.
    pub rights: u16,
    /// Trust level the workload needs for the grant to count. Reserved: always zero today.
    pub min_trust: u8,
    /// What happens below that level. Reserved: always zero today.
    pub on_low: u8,
    /// Index of the (first) rule, for people.
    pub rule: u32,
}

impl Grant {
    /// The rights as a set.
    #[inline(always)]
    pub const fn rights(self) -> Rights {
        Rights(self.rights)
    }
}

/// Cells of an automaton state's accept row: rights, trust, rule low, rule high.
pub const ACCEPT_CELLS: u32 = 4;
/// Most states an automaton may have: a transition is one cell.
pub const MAX_STATES: u32 = 1 << 16;

/// Key of an exact name.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ExactKey {
    /// [`Head::table`].
    pub table: u32,
    /// Length of the name, in bytes.
    pub len: u32,
    /// [`crate::hash::Sip`] of the name.
    pub hash: [u64; 2],
}

crate::codes::codes! {
    /// How a digest says what a file holds.
    pub enum Measure : u32 {
        /// SHA-256 of the content, computed from all of it.
        Sha256 = 1 => "sha256",
        /// The fs-verity digest with SHA-256: of a description of the content that the file system keeps and holds every
        /// read to.
        FsVerity = 2 => "fsverity",
    }
}

/// A SHA-256, its bytes in memory order.
pub type Digest = [u64; 4];

/// The SHA-256 of these bytes.
#[must_use]
pub const fn digest_of(bytes: [u8; 32]) -> Digest {
    let mut words = [0; 4];
    let mut word = 0;
    while word < 4 {
        let mut eight = [0; 8];
        let mut at = 0;
        while at < 8 {
            eight[at] = bytes[word * 8 + at];
            at += 1;
        }
        words[word] = u64::from_ne_bytes(eight);
        word += 1;
    }
    words
}

/// Key of a content that a name may have.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PinKey {
    /// The program's name.
    pub name: ExactKey,
    /// What says what it holds.
    pub digest: Digest,
    /// [`Measure`] code.
    pub measure: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of a content that a name may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pin {
    /// Index of the (first) rule, for people.
    pub rule: u32,
    /// Zero.
    pub reserved: u32,
}

/// Cells are stored in chunks of this many: BPF array elements are at least eight bytes, and an array look-up is
/// inlined by the verifier, so the chunk costs nothing.
pub const ARENA_CHUNK_CELLS: u32 = 32;

/// Where a cell of the arena lies: its chunk, and its place there. `None` beyond any arena.
#[must_use]
pub fn arena_place(index: u64) -> Option<(u32, usize)> {
    let chunk = u32::try_from(index / u64::from(ARENA_CHUNK_CELLS)).ok()?;
    Some((chunk, usize::try_from(index % u64::from(ARENA_CHUNK_CELLS)).ok()?))
}

/// One element of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArenaChunk {
    /// Transitions or accept rows.
    pub cells: [u16; ARENA_CHUNK_CELLS as usize],
}

/// Key of a network prefix, in the layout of `BPF_MAP_TYPE_LPM_TRIE`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PrefixKey {
    /// Significant bits of what follows: 32 for the table, then those of the address.
    pub prefix_len: u32,
    /// [`Head::table`]. Always compared whole, so its byte order does not matter.
    pub table: u32,
    /// IPv6 address, or IPv4 as v4-mapped (`::ffff:a.b.c.d`), in network order.
    pub address: [u8; 16],
}

impl PrefixKey {
    /// Bits before the address.
    pub const TABLE_BITS: u32 = 32;
    /// A key that looks up one address.
    pub const FULL: u32 = Self::TABLE_BITS + 128;
}

/// Value of a network prefix: the span of port ranges that hold for its addresses. The compiler folds the ranges of
/// every shorter prefix that covers it in, so the longest match alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortSpan {
    /// First range, as an index into the port ranges.
    pub first: u32,
    /// Number of ranges. They are sorted and disjoint.
    pub count: u32,
}

/// One range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRange {
    /// Lowest port, host byte order.
    pub low: u16,
    /// Highest port, inclusive.
    pub high: u16,
    /// [`crate::net::Flow`] bits that are allowed.
    pub flows: u32,
    /// Index of the (first) rule.
    pub rule: u32,
    /// Reserved for a trust level: zero.
    pub reserved: u32,
}

/// A cgroup's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Binding {
    /// The policy slot.
    pub slot: Slot,
    /// [`Head::incarnation`] of the policy that it was bound to.
    pub incarnation: u32,
    /// [`Origin`] code: who bound it.
    pub origin: u32,
}

impl Binding {
    /// Whether it is that of a container which was admitted.
    #[inline(always)]
    #[must_use]
    pub const fn is_container(&self) -> bool {
        self.origin == Origin::Container.code() || self.origin == Origin::Started.code()
    }

    /// All of it in one word, which is what a function of the programs can return.
    #[inline(always)]
    #[must_use]
    pub const fn packed(&self) -> u64 {
        (self.incarnation as u64) | (self.slot as u64) << PACKED_SLOT | (self.origin as u64) << PACKED_ORIGIN
    }

    /// The binding of a word; zero is that of no cgroup.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the parts of a word")]
    pub const fn unpacked(word: u64) -> Self {
        Self {
            slot: (word >> PACKED_SLOT & 0xffff) as Slot,
            incarnation: word as u32,
            origin: (word >> PACKED_ORIGIN) as u32,
        }
    }
}

const PACKED_SLOT: u32 = 32;
const PACKED_ORIGIN: u32 = 48;
const _: () = assert!(SLOTS <= 1 << (PACKED_ORIGIN - PACKED_SLOT));

/// What sticks to a task. Lives in task storage; a task without one has not met a hook yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Label {
    /// The policy slot. Meaningless for [`State::Host`].
    pub slot: Slot,
    /// [`Head::incarnation`] at the time of labelling.
    pub incarnation: u32,
    /// [`State`] code.
    pub state: u32,
    /// Sum of [`Control::bind_epoch`] and the programs' own count of moves into bound cgroups, at the time of
    /// labelling. A host label is valid only while the sum stands.
    pub bind_epoch: u32,
    /// Non-zero while an entering task is starting a program that is not a launcher: the label arms once the exec has
    /// passed the point of no return.
    pub arming: u32,
    /// [`program`] bits: what the task runs.
    pub program: u32,
    /// While [`program::SEEKING`]: half of the [`crate::hash::Sip`] of the last component of the script's name.
    pub script: u64,
    /// [`Content`] code: how far the check of the program that the task is starting has come.
    pub content: u32,
    /// Non-zero until the task has started a program under the policy: somebody outside the workload opened what it
    /// holds.
    pub inherited: u32,
    /// Non-zero if the task may start what is listed for probes: it enters a workload from outside, other than as the first
    /// program of a container, or somebody who did started such a program and is its ancestor.
    pub probing: u32,
    /// One more than the number of the system call in which the task was refused to look at another process, until the
    /// kernel has asked whether it may by a capability instead; 0 if there is none.
    pub looked: u32,
    /// [`Keeper::since`] of the seal under which the task started the daemon's program with nobody able to interfere, and
    /// has mapped no other code since; 0 if it did not.
    pub vouched: u64,
    /// Where it was allowed to last: over TCP, and over anything else.
    pub allowed: [AllowedAddress; 2],
}

/// An address that a policy allowed to a task, to be allowed again without looking it up. Tables never change within a
/// generation, so it holds as long as that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AllowedAddress {
    /// [`Control::generation`] under which it was decided; 0, which is none, if nothing is remembered.
    pub generation: u64,
    /// The policy slot.
    pub slot: Slot,
    /// [`Head::incarnation`] of the policy.
    pub incarnation: u32,
    /// IPv6 address, or IPv4 as v4-mapped, in memory order.
    pub address: [u64; 2],
    /// Host byte order.
    pub port: u32,
    /// [`crate::net::Flow`] bit.
    pub flow: u32,
}

impl AllowedAddress {
    /// No address.
    pub const NONE: Self = Self { generation: 0, slot: 0, incarnation: 0, address: [0; 2], port: 0, flow: 0 };
}

/// Bits of [`Label::program`].
pub mod program {
    /// An interpreter: files that it reads as code must be listed as such.
    pub const INTERPRETER: u32 = 1 << 0;
    /// It has not opened its script yet: whatever it reads is taken for code.
    pub const SEEKING: u32 = 1 << 1;
    /// Its arguments were refused: it must not run.
    pub const REFUSED: u32 = 1 << 2;
    /// The program that is being started is an interpreter.
    pub const NEXT: u32 = 1 << 3;
    /// It is a launcher, started by the host: what it does until it starts something else is the host's business,
    /// wherever it does it. Never set for an armed task.
    pub const LAUNCHER: u32 = 1 << 4;
    /// The launcher runs a copy of itself that has no name. A copy makes no further copies.
    pub const COPY: u32 = 1 << 5;
    /// The program that is being started is a launcher.
    pub const NEXT_LAUNCHER: u32 = 1 << 6;
    /// The program that is being started is a launcher's copy of itself.
    pub const NEXT_COPY: u32 = 1 << 7;
    /// The program that is being started is the daemon's, and nobody can interfere: see [`super::Label::vouched`].
    pub const NEXT_KEEPER: u32 = 1 << 8;
    /// The bits about launchers that run.
    pub const RUNS_LAUNCHER: u32 = LAUNCHER | COPY;
    /// The bits about launchers that are being started.
    pub const STARTS_LAUNCHER: u32 = NEXT_LAUNCHER | NEXT_COPY;
}

/// What sticks to a connected internet socket: the policy that allowed its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketLabel {
    /// The policy slot.
    pub slot: Slot,
    /// [`Head::incarnation`] of the policy.
    pub incarnation: u32,
    /// [`Control::generation`] under which it was decided. The policy may have changed since.
    pub generation: u64,
}

crate::codes::codes! {
    /// How far the check of a pinned program's content has come. Set by [`crate::hook::Hook::BprmCheckSecurity`] for
    /// every program and every interpreter anew.
    pub enum Content : u32 {
        /// The program is not pinned.
        Any = 0 => "any",
        /// The program is pinned: its name was allowed, its content is to be looked at.
        Due = 1 => "due",
        /// It was looked at, and the program may start.
        Checked = 2 => "checked",
    }
}

crate::codes::codes! {
    /// Who bound a cgroup.
    pub enum Origin : u32 {
        /// A selector over cgroup paths, of this cgroup or of one above it.
        Selector = 0 => "selector",
        /// A base policy: a container that nobody has admitted yet, or a cgroup that runtimes put containers into.
        Base = 1 => "base",
        /// The daemon, when a runtime asked for it: a container that was admitted, or a cgroup inside one. Inside,
        /// selectors count for nothing.
        Container = 2 => "container",
        /// The same, once the container's first program has started.
        Started = 3 => "started",
        /// A task under a policy, which made it: it has its parent's policy, and selectors count for nothing, whatever it
        /// is called.
        Workload = 4 => "workload",
    }
}

crate::codes::codes! {
    /// Where a task stands.
    pub enum State : u32 {
        /// Fresh storage.
        Unknown = 0 => "unknown",
        /// Under no policy.
        Host = 1 => "host",
        /// A trusted launcher inside a workload's cgroup: its own set-up work is the host's business, the first other
        /// program that it starts is the workload's.
        Entering = 2 => "entering",
        /// Every operation is judged. Never left but by an operator's removal of the policy.
        Armed = 3 => "armed",
    }
}

/// Names something of the enforcer's own, for [`crate::maps::OWN`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OwnKey {
    /// Code of an [`OwnKind`].
    pub kind: u32,
    /// The file system's number as the kernel keeps it (`super_block.s_dev`), for inodes; 0 otherwise.
    pub device: u32,
    /// Inode number, or id.
    pub number: u64,
}

crate::codes::codes! {
    /// What an [`OwnKey`] names.
    pub enum OwnKind : u32 {
        /// An inode.
        Inode = 0 => "inode",
        /// A BPF map.
        Map = 1 => "map",
        /// A BPF program.
        Program = 2 => "program",
        /// A BPF link.
        Link = 3 => "link",
        /// A mount that leads to something of ours, by the number that `/proc/PID/mountinfo` shows.
        Mount = 4 => "mount",
        /// A group of mounts that propagate to each other, one of them such a mount.
        Group = 5 => "group",
    }
}

/// What is protected of something that is the enforcer's own: bits.
pub mod own {
    /// It, and if it is a directory everything below it.
    pub const WHOLE: u32 = 1 << 0;
    /// A directory on the way to something whole: it stays where it is, and nothing is mounted on it.
    pub const WAY: u32 = 1 << 1;
    /// A cgroup that the daemon is in: its control files are not written.
    pub const CONTROLS: u32 = 1 << 2;
    /// It, and if it is a directory everything below it; but who reads it is for policies to say.
    pub const RECORD: u32 = 1 << 3;
    /// A directory of ours whose files the host changes even while sealed: what is taken from there is signed.
    pub const OFFERED: u32 = 1 << 4;
    /// A directory whose files nobody outside the daemon's program opens while sealed: locks.
    pub const CLOSED: u32 = 1 << 5;
    /// The cgroup that the daemon itself is in, not one above.
    pub const HOME: u32 = 1 << 6;
    /// A file that the daemon has mapped as code. Nobody changes or removes it while sealed, and a successor may map it.
    pub const CODE: u32 = 1 << 7;
    /// The daemon's program: who starts it may succeed the daemon while sealed.
    pub const PROGRAM: u32 = 1 << 8;
    /// The map [`crate::maps::KEEPER`]: who runs the daemon's program, and gets a descriptor of it to write to, is the daemon
    /// from then on.
    pub const DOOR: u32 = 1 << 9;
}

/// Which inodes may be the enforcer's own, for [`crate::maps::OWN_FILTER`]: one bit for each of [`OwnFilter::BITS`] classes of
/// them. Nearly every other inode is in a class without any, and need not be looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OwnFilter {
    /// The bits.
    pub words: [u64; OwnFilter::WORDS],
}

impl OwnFilter {
    const WORDS: usize = 16;
    /// How many classes there are.
    pub const BITS: u32 = 1024;

    /// The class of an inode.
    #[expect(clippy::cast_possible_truncation, reason = "ten bits are left")]
    #[inline(always)]
    const fn class(device: u32, number: u64) -> u32 {
        /// 2⁶⁴ divided by the golden ratio: consecutive numbers land far apart.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (number ^ ((device as u64) << 32)).wrapping_mul(SPREAD);
        (mixed >> (u64::BITS - Self::BITS.trailing_zeros())) as u32
    }

    /// Whether an inode may be the enforcer's own.
    #[inline(always)]
    #[must_use]
    pub const fn may_hold(&self, device: u32, number: u64) -> bool {
        let class = Self::class(device, number);
        self.words[(class / 64) as usize % Self::WORDS] >> (class % 64) & 1 != 0
    }

    /// Adds what a key names.
    pub const fn add(&mut self, key: &OwnKey) {
        if key.kind == OwnKind::Inode.code() {
            let class = Self::class(key.device, key.number);
            self.words[(class / 64) as usize % Self::WORDS] |= 1 << (class % 64);
        }
    }
}

/// The daemon's process, and whether it is sealed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Keeper {
    /// Its number in the initial pid namespace; 0 if there is none. While sealed the programs write it, and nobody else.
    pub process: u32,
    /// Not 0 while sealed: then nobody but the daemon changes what is the enforcer's own.
    pub sealed: u32,
    /// When it started, in [`Keeper::TICK`]s since boot: numbers are given out again.
    pub started: u64,
    /// Address of its credentials, noted by the programs.
    pub credentials: u64,
    /// When it was sealed, in nanoseconds since boot; tells this seal from all others. 0 if it is not.
    pub since: u64,
    /// Version of the bundle in force, while sealed. No older one is taken.
    pub version: u64,
    /// SHA-256 of the statement that sealed.
    pub statement: [u8; 32],
    /// SHA-256 of the anchors that were trusted then. While sealed no others are.
    pub anchors: [u8; 32],
    /// SHA-256 of the daemon's settings then. A successor has the same.
    pub settings: [u8; 32],
}

impl Keeper {
    /// Nanoseconds of the unit in which `/proc/PID/stat` says when a process started (`USER_HZ`, ABI).
    pub const TICK: u64 = 10_000_000;

    /// Whether it is sealed in.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.sealed != 0
    }
}

crate::codes::codes! {
    /// Counters kept by the BPF programs.
    pub enum Counter : u32 {
        /// Events that found the ring full.
        EventsLost = 0 => "events-lost",
        /// Denials in enforce mode.
        Denied = 1 => "denied",
        /// Would-be denials in audit mode.
        Audited = 2 => "audited",
        /// Decisions that ended in a fault.
        Faults = 3 => "faults",
        /// Cgroups that matched a selector and were bound at creation.
        Bound = 4 => "bound",
        /// Bindings that could not be stored. Their tasks adopt the nearest bound ancestor's policy.
        BindFailed = 5 => "bind-failed",
        /// Tasks that were armed.
        Armed = 6 => "armed",
        /// Allows that were remembered with a file, to be repeated without looking anything up.
        Remembered = 7 => "remembered",
    }
}

/// Room for counters.
pub const COUNTERS: u32 = 16;

const _: () = {
    assert!(size_of::<Control>() == 32);
    assert!(size_of::<Head>() == 320);
    assert!(size_of::<Grant>() == 8);
    assert!(size_of::<ExactKey>() == 24);
    assert!(size_of::<PinKey>() == 64);
    assert!(size_of::<Pin>() == 8);
    assert!(size_of::<ArenaChunk>() == 64);
    assert!(size_of::<PrefixKey>() == 24);
    assert!(size_of::<PortSpan>() == 8);
    assert!(size_of::<PortRange>() == 16);
    assert!(size_of::<Binding>() == 12);
    assert!(size_of::<Label>() == 136);
    assert!(size_of::<AllowedAddress>() == 40);
    assert!(size_of::<SocketLabel>() == 16);
    assert!(size_of::<OwnKey>() == 16);
    assert!(8 * size_of::<OwnFilter>() == OwnFilter::BITS as usize);
    assert!(size_of::<Keeper>() == 136);
    assert!(Counter::ALL.len() <= COUNTERS as usize);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_fits_a_word() {
        for origin in Origin::ALL {
            for (slot, incarnation) in [(0, 1), (SLOTS - 1, u32::MAX), (2, 0x1234_5678)] {
                let binding = Binding { slot, incarnation, origin: origin.code() };
                assert_eq!(Binding::unpacked(binding.packed()), binding);
                assert_ne!(binding.packed(), 0);
            }
        }
        assert_eq!(Binding::unpacked(0).incarnation, 0);
    }

    #[test]
    fn the_filter_has_all_that_was_added_and_little_else() {
        let key = |device, number| OwnKey { kind: OwnKind::Inode.code(), device, number };
        let ours = || (0..20).map(|n| key(0x80_0001 + n / 10, 131_072 + u64::from(n) * 7));
        let mut filter = OwnFilter::default();
        assert!(ours().all(|key| !filter.may_hold(key.device, key.number)));
        ours().for_each(|key| filter.add(&key));
        assert!(ours().all(|key| filter.may_hold(key.device, key.number)));
        let others = (0..10_000_u32).filter(|n| filter.may_hold(0x1a + n % 4, u64::from(*n))).count();
        assert!(others < 500, "{others} of 10000");
        let before = filter;
        filter.add(&OwnKey { kind: OwnKind::Map.code(), device: 0, number: 5 });
        assert_eq!(filter, before, "ids are looked up at once");
    }
}
