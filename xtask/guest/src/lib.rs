//! What both ends of a test VM agree on: the [`Job`] the host hands over in the initramfs, and the
//! [`frame`]s the guest sends back over a virtio-serial port.
//!
//! `xtask` links this library for the host's end; the `vm-guest` program is the guest's end.
#![forbid(unsafe_code)]

pub mod frame;
mod job;

pub use job::{Job, Share, Tier};

/// Where things are inside the guest. The host packs to these paths, the guest reads from them.
pub mod layout {
    /// The job, in the initramfs; copied to the same place in a systemd root.
    pub const JOB: &str = "/etc/vm/job.json";
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
