//! A file system with fs-verity: an empty ext4 image that the initramfs holds, on a loop device.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use enforcer::policy::digest::ContentDigest;
use nix::mount::{MntFlags, umount2};

use crate::scenario::make_executable;

/// Where the initramfs has the image (`xtask/src/vm/initramfs.rs`).
const IMAGE: &str = "/usr/share/vm/verity.ext4";

/// The mount, until dropped.
#[derive(Debug)]
pub struct Verity {
    directory: PathBuf,
}

impl Verity {
    /// Mounts a fresh copy of the image on `directory`.
    ///
    /// # Panics
    /// When that fails: every kernel of the matrix can.
    #[must_use]
    pub fn mount(directory: &Path) -> Self {
        let image = directory.with_extension("ext4");
        fs::copy(IMAGE, &image).expect("copying the image");
        fs::create_dir_all(directory).expect("creating the mount point");
        // Loaded on demand elsewhere; the guest's `mount` wants the devices to be there.
        let _ = Command::new("modprobe").arg("loop").status();
        let mut mount = Command::new("mount");
        let status = mount.args(["-t", "ext4", "-o", "loop"]).args([&image, directory]).status();
        assert!(
            status.as_ref().is_ok_and(|status| status.success()),
            "mounting {}: {status:?}",
            image.display()
        );
        Self { directory: directory.into() }
    }

    /// Makes an executable file with this content, and enables fs-verity on it. Its digest.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn program(&self, name: &str, content: &[u8]) -> ContentDigest {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        make_executable(Path::new(&path), content);
        enable(Path::new(&path), Algorithm::Sha256).expect("enabling fs-verity");
        digest_of(Path::new(&path)).expect("fs-verity was just enabled")
    }

    /// The path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory.display())
    }
}

impl Drop for Verity {
    fn drop(&mut self) {
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
    }
}

/// `FS_VERITY_HASH_ALG_*`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Algorithm {
    /// What policies can compare.
    Sha256 = 1,
    /// What they cannot.
    Sha512 = 2,
}

/// Enables fs-verity on a file that nobody has open for writing.
///
/// # Errors
/// What `FS_IOC_ENABLE_VERITY` fails with.
pub fn enable(path: &Path, algorithm: Algorithm) -> io::Result<()> {
    /// `struct fsverity_enable_arg` up to what a signature would take.
    #[repr(C)]
    struct Enable {
        version: u32,
        algorithm: u32,
        block_size: u32,
        rest: [u32; 29],
    }
    /// `_IOW('f', 133, struct fsverity_enable_arg)`.
    const FS_IOC_ENABLE_VERITY: libc::Ioctl = 0x4080_6685;
    let file = File::open(path)?;
    let request = Enable { version: 1, algorithm: algorithm as u32, block_size: 4096, rest: [0; 29] };
    // SAFETY: the kernel reads the 128 bytes of `request`, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_ENABLE_VERITY, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The fs-verity digest of a file, as the kernel tells it.
#[must_use]
pub fn digest_of(path: &Path) -> Option<ContentDigest> {
    let file = File::open(path).ok()?;
    enforcer::sys::fsverity_digest(file.as_fd()).expect("measuring a file").map(ContentDigest)
}
