//! The work order for one boot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What user space the guest brings up before it runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// The initramfs itself: busybox and the programs under test.
    Initramfs,
    /// A Debian root file system with systemd as PID 1.
    Systemd,
}

/// Whether a directory of the host is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// No second disk.
    None,
    /// A disk with a copy of the directory; its changes go back to the host.
    Copy,
}

/// The work order for one boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// User space to bring up.
    pub tier: Tier,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the command's environment.
    pub env: BTreeMap<String, String>,
    /// Whether `/share` exists.
    pub share: Share,
    /// Whether to configure the first Ethernet interface for QEMU's user-mode network.
    pub net: bool,
    /// Run the command on the console with a terminal instead of over the frame port.
    pub interactive: bool,
    /// Seconds after which the guest itself kills the command and reports status 124.
    pub timeout_s: u64,
}
