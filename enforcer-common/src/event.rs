//! The event record: a fixed header, then the exe path, then the object name, as the header's lengths say. The ring's
//! sample may be longer than that; what follows means nothing.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First field of every record.
pub const MAGIC: u32 = 0x3145_464e; // "NFE1"

/// Most bytes of the exe path in a record; a longer one loses its front, and [`flag::EXE_TRUNCATED`] is set.
pub const EXE_MAX: u32 = 2048;

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EventHeader {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`flag`] bits.
    pub flags: u32,
    /// `bpf_ktime_get_boot_ns`, nanoseconds.
    pub boot_ns: u64,
    /// Generation in force when it was decided.
    pub generation: u64,
    /// The task's cgroup id.
    pub cgroup: u64,
    /// Policy slot.
    pub slot: u32,
    /// Incarnation of the slot.
    pub incarnation: u32,
    /// Process id (thread group), initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Parent process id.
    pub ppid: u32,
    /// Real user id, initial user namespace.
    pub uid: u32,
    /// [`crate::hook::Hook`] code.
    pub hook: u8,
    /// [`crate::verdict::Family`] code.
    pub family: u8,
    /// [`crate::verdict::Mode`] code that applied.
    pub mode: u8,
    /// [`crate::verdict::Reason`] code.
    pub reason: u8,
    /// [`crate::verdict::Fault`] code.
    pub fault: u8,
    /// [`ObjectKind`] code: how to read `detail` and `address`.
    pub object: u8,
    /// Length of the exe path, in bytes.
    pub exe_len: u16,
    /// Length of the object name, in bytes.
    pub name_len: u16,
    /// Rights that were needed ([`crate::rights::Rights`]), for named and unnamed objects.
    pub needed: u16,
    /// By `object`: address: [`crate::net::Flow`] bit; socket: family; privilege: [`crate::hook::Privilege`] code.
    pub detail: u32,
    /// Address: port. Socket: 1 for a raw or packet socket, otherwise 0.
    pub port: u32,
    /// Reserved: zero.
    pub reserved: u32,
    /// Address of [`ObjectKind::Address`].
    pub address: [u8; 16],
    /// Task name, NUL padded.
    pub comm: [u8; 16],
    /// Parent's task name, NUL padded.
    pub parent_comm: [u8; 16],
    /// SHA-256 of the content, if `object` is [`ObjectKind::Content`] and `detail` has [`known::SHA256`]. Means nothing
    /// otherwise.
    pub digest: [u8; 32],
    /// fs-verity digest of the content, if `object` is [`ObjectKind::Content`] and `detail` has [`known::FSVERITY`]. Means
    /// nothing otherwise.
    pub fsverity: [u8; 32],
}

/// Bits of [`EventHeader::flags`].
pub mod flag {
    /// The operation was refused.
    pub const REFUSED: u32 = 1 << 0;
    /// The exe path lost its front.
    pub const EXE_TRUNCATED: u32 = 1 << 1;
    /// The exe path could not be had.
    pub const EXE_UNKNOWN: u32 = 1 << 2;
    /// The task was entering the workload.
    pub const ENTERING: u32 = 1 << 3;
}

/// Bits of [`EventHeader::detail`] for [`ObjectKind::Content`], and of [`crate::decide::Contents::known`].
pub mod known {
    /// The SHA-256 of the content.
    pub const SHA256: u32 = 1 << 0;
    /// The fs-verity digest.
    pub const FSVERITY: u32 = 1 << 1;
}

crate::codes::codes! {
    /// What an event is about.
    pub enum ObjectKind : u8 {
        /// A name: path, or `@abstract`.
        Name = 1 => "name",
        /// A file without a name; the record's name is what its dentry is called.
        Unnamed = 2 => "unnamed",
        /// Executable memory.
        Memory = 3 => "memory",
        /// A transport address.
        Address = 4 => "address",
        /// A socket family.
        Socket = 5 => "socket",
        /// A privilege.
        Privilege = 6 => "privilege",
        /// The name of a program, and what it holds: `detail` has [`known`] bits.
        Content = 7 => "content",
    }
}

/// Longest record, in bytes.
pub const EVENT_MAX: u32 = HEADER_LEN + EXE_MAX + crate::abi::PATH_MAX;

/// Length of the fixed part, in bytes.
pub const HEADER_LEN: u32 = 192;

const _: () = assert!(size_of::<EventHeader>() == HEADER_LEN as usize);
