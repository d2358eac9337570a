//! Test VMs: boots a kernel of the matrix, runs one command in it as root, brings back output and status.
//!
//! [`Host`] is what every boot needs and is prepared once; [`Guest`] describes one boot; [`run`] performs it.
//! The other end of the conversation is the `vm-guest` crate.

mod accel;
mod console;
mod cpio;
mod host;
mod initramfs;
mod interrupt;
mod libraries;
mod programs;
mod qemu;
mod session;
mod share;
mod tpm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

pub(crate) use host::Host;
pub(crate) use interrupt::on_interrupt_stop_guests;
pub(crate) use libraries::of as libraries_of;
pub(crate) use programs::Program;
pub(crate) use tpm::{TpmDevice, TpmInterface};
pub(crate) use vm_guest::Tier;

use crate::provision::kernel::Kernel;
use crate::provision::tool::Unpacked;
use crate::ui;

/// How often a boot is repeated after the kernel itself broke.
const RETRIES: u32 = 2;

/// One boot.
pub(crate) struct Guest<'a> {
    /// The kernel to boot.
    pub(crate) kernel: &'a Kernel,
    /// The user space to bring up.
    pub(crate) tier: Tier,
    /// Program and arguments to run as root.
    pub(crate) argv: Vec<String>,
    /// Added to its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Put on its `PATH`.
    pub(crate) programs: &'a [Program],
    /// Time for the command, not counting the boot.
    pub(crate) timeout: Duration,
    /// Memory; a default per tier otherwise.
    pub(crate) memory_mib: Option<u32>,
    /// A root disk of its own, which keeps what is written; a snapshot of the usual one otherwise.
    pub(crate) disk: Option<PathBuf>,
    /// Directory to appear at `/share`.
    pub(crate) share: Option<PathBuf>,
    /// Attach QEMU's user-mode network.
    pub(crate) net: bool,
    /// Attach a TPM 2.0.
    pub(crate) tpm: Option<TpmDevice>,
    /// Boot through UEFI firmware, which measures what it starts into that TPM.
    pub(crate) uefi: bool,
    /// Give the command the user's terminal.
    pub(crate) interactive: bool,
    /// Appended to the kernel command line.
    pub(crate) kernel_parameters: String,
    /// A QEMU to run it with so that time is the number of instructions that the guest has executed.
    pub(crate) counting: Option<&'a Unpacked>,
}

/// Where the command's output goes while it runs.
pub(crate) trait Sink {
    /// Bytes of standard output.
    fn stdout(&mut self, data: &[u8]) -> Result<()>;
    /// Bytes of standard error.
    fn stderr(&mut self, data: &[u8]) -> Result<()>;
    /// The boot is repeated: what came so far does not count.
    fn restarted(&mut self) {}
}

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The command ended with this status.
    Exited(i32),
    /// Command or boot took too long; says which.
    TimedOut(String),
    /// The guest died before it could report a status; says how.
    Died(String),
}

/// What is known after a boot.
pub(crate) struct Report {
    /// How it ended.
    pub(crate) ending: Ending,
    /// From QEMU's start to the start of the command.
    pub(crate) boot: Option<Duration>,
    /// From QEMU's start to the end.
    pub(crate) total: Duration,
    /// Directory with `console.log` and the guest's artifacts.
    pub(crate) logs: PathBuf,
    /// A line that shows the kernel itself broke.
    kernel_crash: Option<String>,
}

impl Report {
    /// The end of the console log, for a reader who must find out what happened.
    pub(crate) fn console_tail(&self, lines: usize) -> String {
        let log = console::read(&self.logs.join("console.log"));
        let all: Vec<&str> = log.lines().map(str::trim_end).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Files the guest left in its artifact directory: name and text.
    pub(crate) fn artifacts(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(self.logs.join("artifacts")).into_iter().flatten().flatten();
        let text = |path: PathBuf| console::read(&path);
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), text(entry.path()))).collect()
    }
}

/// Boots the guest and runs its command. Repeats the boot only when the kernel broke, never for a failing command.
pub(crate) fn run(host: &Host, guest: &Guest<'_>, sink: &mut dyn Sink) -> Result<Report> {
    for attempt in 0..=RETRIES {
        let report = session::run(host, guest, sink)?;
        let Some(crash) =
            report.kernel_crash.as_ref().filter(|_| !matches!(report.ending, Ending::Exited(_)))
        else {
            return Ok(report);
        };
        if attempt == RETRIES {
            ui::warn(&format!(
                "kernel {} broke {} times; giving up: {crash}",
                guest.kernel.name,
                attempt + 1
            ));
            return Ok(report);
        }
        ui::warn(&format!(
            "kernel {} broke ({crash}); this is known of emulated CPUs, so booting again ({} of {RETRIES} retries); \
             console in {}",
            guest.kernel.name,
            attempt + 1,
            report.logs.display()
        ));
        sink.restarted();
    }
    bail!("the last attempt returns")
}
