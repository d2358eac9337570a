//! What makes a file's digest worth something.

/// `HASH_ALGO_SHA256` in the kernel's `enum hash_algo`, which is part of its user-space interface.
pub const SHA256: i64 = 4;

/// `FS_VERITY_HASH_ALG_SHA256` in the kernel's `uapi/linux/fsverity.h`. The only algorithm whose digests are as long as
/// [`crate::abi::Digest`]: the other is SHA-512.
pub const VERITY_SHA256: u16 = 1;

/// Whether what was read from a file of this file system is what will be mapped of it, as long as nobody has it open
/// for writing, which the kernel keeps from happening while a program starts and runs.
///
/// True of file systems that the kernel itself keeps on a disk of its own or in memory. Not of FUSE, where a process
/// makes the content up at each read, nor of network and cluster file systems, where other machines write; and, to err
/// on the safe side, not of those we do not know. By `s_magic`, stable by `include/uapi/linux/magic.h`.
#[inline(always)]
#[must_use]
pub const fn is_stable(magic: u64) -> bool {
    matches!(
        magic,
        EXT | XFS
            | BTRFS
            | F2FS
            | BCACHEFS
            | ZFS
            | TMPFS
            | RAMFS
            | OVERLAYFS
            | EROFS
            | SQUASHFS
            | ISO9660
            | UDF
            | FAT
            | EXFAT
            | NTFS3
            | JFS
            | NILFS
    )
}

/// ext2, ext3 and ext4.
const EXT: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;
const F2FS: u64 = 0xf2f5_2010;
const BCACHEFS: u64 = 0xca45_1a4e;
const ZFS: u64 = 0x2fc1_2fc1;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const OVERLAYFS: u64 = 0x794c_7630;
const EROFS: u64 = 0xe0f5_e1e2;
const SQUASHFS: u64 = 0x7371_7368;
const ISO9660: u64 = 0x9660;
const UDF: u64 = 0x1501_3346;
const FAT: u64 = 0x4d44;
const EXFAT: u64 = 0x2011_bab0;
const NTFS3: u64 = 0x7366_746e;
const JFS: u64 = 0x3153_464a;
const NILFS: u64 = 0x3434;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_others_can_change_is_not_stable() {
        const FUSE: u64 = 0x6573_5546;
        const NFS: u64 = 0x6969;
        const SMB2: u64 = 0xfe53_4d42;
        const NINE_P: u64 = 0x0102_1997;
        const CEPH: u64 = 0x00c3_6400;
        const PROC: u64 = 0x9fa0;
        for magic in [FUSE, NFS, SMB2, NINE_P, CEPH, PROC, 0, u64::MAX] {
            assert!(!is_stable(magic), "{magic:#x}");
        }
        assert!(is_stable(EXT) && is_stable(TMPFS) && is_stable(OVERLAYFS));
    }
}
