//! What both ends of a test VM agree on: the [`Job`] the host hands over on a disk, and the
//! [`frame`]s the guest sends back over a virtio-serial port.
//!
//! `xtask` links this library for the host's end; the `vm-guest` program is the guest's end.
#![forbid(unsafe_code)]

pub mod frame;
mod job;

pub use job::{Job, Share, Tier};

/// Where things are inside the guest. The host packs to these paths, the guest reads from them.
pub mod layout {
    /// `serial` of the virtio disk that is the job, padded with spaces. Not in the initramfs, which is measured where there
    /// is a TPM: two boots that differ in their command alone must not differ in their measurements.
    pub const JOB_SERIAL: &str = "vmjob";
    /// Module files that the guest loads first, in the initramfs.
    pub const MODULES: &str = "/etc/vm/modules.json";
    /// The programs under test.
    pub const BIN_DIR: &str = "/usr/local/bin";
    /// Shared libraries of programs under test that are not static.
    pub const LIB_DIR: &str = "/usr/local/lib/vm";
    /// Files put here are sent to the host when the command fails.
    pub const ARTIFACT_DIR: &str = "/var/log/vm-artifacts";
    /// The shared directory's mount point.
    pub const SHARE_DIR: &str = "/share";
    /// Name of the virtio-serial port that carries frames.
    pub const PORT: &str = "vm.frames";
    /// `serial` of the virtio disk with the root file system.
    pub const ROOT_SERIAL: &str = "vmroot";
    /// `serial` of the virtio disk with the shared directory.
    pub const SHARE_SERIAL: &str = "vmshare";
}
