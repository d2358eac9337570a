//! What the commands of `ioctl(2)` do, as far as that needs more than the descriptor.
//!
//! Command numbers say whose they are (a letter), which of that one's, how many bytes their argument has and which way it goes.
//! They are part of the kernel's ABI.

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Types into a terminal as if its user did.
    Typing,
    /// Says whom the file signals. The kernel reads it later than a hook could.
    SignalOwner,
    /// Turns signals to that one on or off.
    Signal,
    /// Fills memory, whatever its protection: `userfaultfd(2)` copies into private mappings that are not writable, code
    /// among them.
    Memory,
    /// Changes the file. Most take a descriptor for reading.
    Change,
    /// Asks a file system for more than that. Some of these make whole trees appear under another name, read what lies below,
    /// or stop everybody's work; what is new or unknown counts as one. Devices have commands of the same numbers.
    Administration,
    /// Anything else.
    Harmless,
}

impl Kind {
    /// What this command is about.
    #[inline(always)]
    #[must_use]
    pub const fn of(command: u32) -> Self {
        match command {
            TIOCSTI | TIOCLINUX => Self::Typing,
            FIOSETOWN | SIOCSPGRP => Self::SignalOwner,
            FIOASYNC => Self::Signal,
            FS_IOC_SETFLAGS
            | FS_IOC32_SETFLAGS
            | FS_IOC_FSSETXATTR
            | FS_IOC_ENABLE_VERITY
            | FS_IOC_SETVERSION
            | FS_IOC32_SETVERSION
            | FS_IOC_SET_ENCRYPTION_POLICY
            | FS_IOC_RESVSP
            | FS_IOC_UNRESVSP
            | FS_IOC_RESVSP64
            | FS_IOC_UNRESVSP64
            | FS_IOC_ZERO_RANGE
            | EXT4_IOC_SETVERSION
            | EXT4_IOC32_SETVERSION
            | EXT4_IOC_MIGRATE
            | EXT4_IOC_MOVE_EXT
            | EXT4_IOC_SWAP_BOOT => Self::Change,
            // The first three write to descriptors that are open for it, or share what is the same already.
            FICLONE
            | FICLONERANGE
            | FIDEDUPERANGE
            | FS_IOC_GETFLAGS
            | FS_IOC32_GETFLAGS
            | FS_IOC_GETVERSION
            | FS_IOC32_GETVERSION
            | FS_IOC_FIEMAP
            | FS_IOC_FSGETXATTR
            | FS_IOC_GETFSLABEL
            | FS_IOC_GET_ENCRYPTION_POLICY
            | FS_IOC_GET_ENCRYPTION_POLICY_EX
            | FS_IOC_GET_ENCRYPTION_KEY_STATUS
            | FS_IOC_GET_ENCRYPTION_NONCE
            | FS_IOC_MEASURE_VERITY
            | FS_IOC_READ_VERITY_METADATA
            | XFS_IOC_DIOINFO
            | BTRFS_IOC_FS_INFO
            | BTRFS_IOC_DEV_INFO
            | BTRFS_IOC_SPACE_INFO
            | BTRFS_IOC_INO_LOOKUP
            | BTRFS_IOC_SUBVOL_GETFLAGS
            | BTRFS_IOC_GET_FEATURES => Self::Harmless,
            _ => match command >> 8 & 0xff {
                USERFAULTFD => Self::Memory,
                ALL | EXT | XFS | BTRFS | F2FS => Self::Administration,
                _ => Self::Harmless,
            },
        }
    }
}

// Letters.
const ALL: u32 = b'f' as u32;
const EXT: u32 = b'v' as u32;
/// Other file systems have taken some over.
const XFS: u32 = b'X' as u32;
const BTRFS: u32 = 0x94;
const F2FS: u32 = 0xf5;
const USERFAULTFD: u32 = 0xaa;

const fn command(letter: u32, number: u32) -> u32 {
    letter << 8 | number
}

const fn writes(letter: u32, number: u32, size: u32) -> u32 {
    1 << 30 | size << 16 | command(letter, number)
}

const fn reads(letter: u32, number: u32, size: u32) -> u32 {
    2 << 30 | size << 16 | command(letter, number)
}

const fn both(letter: u32, number: u32, size: u32) -> u32 {
    3 << 30 | size << 16 | command(letter, number)
}

// Of terminals and of any file, older than the scheme.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;
const FIOASYNC: u32 = 0x5452;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;

// Those that change the file. What 32-bit programs call otherwise has 32 in its name.
const FS_IOC_SETFLAGS: u32 = writes(ALL, 2, 8);
const FS_IOC32_SETFLAGS: u32 = writes(ALL, 2, 4);
const FS_IOC_FSSETXATTR: u32 = writes(XFS, 32, 28);
const FS_IOC_ENABLE_VERITY: u32 = writes(ALL, 133, 128);
const FS_IOC_SETVERSION: u32 = writes(EXT, 2, 8);
const FS_IOC32_SETVERSION: u32 = writes(EXT, 2, 4);
const FS_IOC_SET_ENCRYPTION_POLICY: u32 = reads(ALL, 19, 12);
const FS_IOC_RESVSP: u32 = writes(XFS, 40, 48);
const FS_IOC_UNRESVSP: u32 = writes(XFS, 41, 48);
const FS_IOC_RESVSP64: u32 = writes(XFS, 42, 48);
const FS_IOC_UNRESVSP64: u32 = writes(XFS, 43, 48);
const FS_IOC_ZERO_RANGE: u32 = writes(XFS, 57, 48);
const EXT4_IOC_SETVERSION: u32 = writes(ALL, 4, 8);
const EXT4_IOC32_SETVERSION: u32 = writes(ALL, 4, 4);
const EXT4_IOC_MIGRATE: u32 = command(ALL, 9);
const EXT4_IOC_MOVE_EXT: u32 = both(ALL, 15, 40);
/// Swaps the contents of a file and of the inode for boot loaders; twice, those of two files.
const EXT4_IOC_SWAP_BOOT: u32 = command(ALL, 17);

// Those that ordinary programs use.
const FICLONE: u32 = writes(BTRFS, 9, 4);
const FICLONERANGE: u32 = writes(BTRFS, 13, 32);
const FIDEDUPERANGE: u32 = both(BTRFS, 54, 24);
const FS_IOC_GETFLAGS: u32 = reads(ALL, 1, 8);
const FS_IOC32_GETFLAGS: u32 = reads(ALL, 1, 4);
const FS_IOC_GETVERSION: u32 = reads(EXT, 1, 8);
const FS_IOC32_GETVERSION: u32 = reads(EXT, 1, 4);
const FS_IOC_FIEMAP: u32 = both(ALL, 11, 32);
const FS_IOC_FSGETXATTR: u32 = reads(XFS, 31, 28);
const FS_IOC_GETFSLABEL: u32 = reads(BTRFS, 49, 256);
const FS_IOC_GET_ENCRYPTION_POLICY: u32 = writes(ALL, 21, 12);
const FS_IOC_GET_ENCRYPTION_POLICY_EX: u32 = both(ALL, 22, 9);
const FS_IOC_GET_ENCRYPTION_KEY_STATUS: u32 = both(ALL, 26, 128);
const FS_IOC_GET_ENCRYPTION_NONCE: u32 = reads(ALL, 27, 16);
const FS_IOC_MEASURE_VERITY: u32 = both(ALL, 134, 4);
const FS_IOC_READ_VERITY_METADATA: u32 = both(ALL, 135, 40);
const XFS_IOC_DIOINFO: u32 = reads(XFS, 30, 12);
const BTRFS_IOC_INO_LOOKUP: u32 = both(BTRFS, 18, 4096);
const BTRFS_IOC_SPACE_INFO: u32 = both(BTRFS, 20, 16);
const BTRFS_IOC_SUBVOL_GETFLAGS: u32 = reads(BTRFS, 25, 8);
const BTRFS_IOC_DEV_INFO: u32 = both(BTRFS, 30, 4096);
const BTRFS_IOC_FS_INFO: u32 = reads(BTRFS, 31, 1024);
const BTRFS_IOC_GET_FEATURES: u32 = reads(BTRFS, 57, 24);

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn commands_are_told_by_what_the_kernel_headers_call_them() {
        let table = [
            (0x5401, Kind::Harmless),            // TCGETS
            (0x541b, Kind::Harmless),            // FIONREAD
            (0x5412, Kind::Typing),              // TIOCSTI
            (0x8901, Kind::SignalOwner),         // FIOSETOWN
            (0x5452, Kind::Signal),              // FIOASYNC
            (0x8008_6601, Kind::Harmless),       // FS_IOC_GETFLAGS
            (0x4008_6602, Kind::Change),         // FS_IOC_SETFLAGS
            (0x401c_5820, Kind::Change),         // FS_IOC_FSSETXATTR
            (0x4080_6685, Kind::Change),         // FS_IOC_ENABLE_VERITY
            (0x800c_6613, Kind::Change),         // FS_IOC_SET_ENCRYPTION_POLICY
            (0x0000_6611, Kind::Change),         // EXT4_IOC_SWAP_BOOT
            (0xc028_660f, Kind::Change),         // EXT4_IOC_MOVE_EXT
            (0x4030_5828, Kind::Change),         // FS_IOC_RESVSP
            (0x4004_9409, Kind::Harmless),       // FICLONE
            (0x4020_940d, Kind::Harmless),       // FICLONERANGE
            (0xc018_9436, Kind::Harmless),       // FIDEDUPERANGE
            (0xc020_660b, Kind::Harmless),       // FS_IOC_FIEMAP
            (0x801c_581f, Kind::Harmless),       // FS_IOC_FSGETXATTR
            (0xc004_5877, Kind::Administration), // FIFREEZE
            (0x8004_587d, Kind::Administration), // FS_IOC_SHUTDOWN
            (0x5000_9401, Kind::Administration), // BTRFS_IOC_SNAP_CREATE
            (0x4048_9426, Kind::Administration), // BTRFS_IOC_SEND
            (0xd000_9411, Kind::Administration), // BTRFS_IOC_TREE_SEARCH
            (0x4040_587b, Kind::Administration), // XFS_IOC_ATTRMULTI_BY_HANDLE
            (0x4008_6610, Kind::Administration), // EXT4_IOC_RESIZE_FS
            (0xc018_aa3f, Kind::Memory),         // UFFDIO_API
            (0xc028_aa03, Kind::Memory),         // UFFDIO_COPY
        ];
        for (command, kind) in table {
            assert_eq!(Kind::of(command), kind, "{command:#x}");
        }
    }
}
