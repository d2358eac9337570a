//! The TPM emulator of one guest, with a fresh state or one that several boots share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::qemu::dying_with_us;

/// A TPM 2.0 for a guest.
#[derive(Debug, Clone)]
pub(crate) struct TpmDevice {
    /// How the guest sees it.
    pub(crate) interface: TpmInterface,
    /// Directory with what the TPM remembers without power, so that several boots have the same TPM. A fresh one otherwise.
    ///
    /// As with a shared directory, the guest works on a copy, which comes back when its command has ended: a boot that is
    /// repeated or dies leaves nothing.
    pub(crate) state: Option<PathBuf>,
}

impl TpmDevice {
    /// Whether a later boot may have the same TPM.
    pub(super) fn is_kept(&self) -> bool {
        self.state.is_some()
    }
}

/// How a TPM is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TpmInterface {
    /// Command response buffer, as current firmware TPMs have it.
    Crb,
    /// The older register interface, as chips have it.
    Tis,
}

impl TpmInterface {
    /// What options and guests call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crb => "crb",
            Self::Tis => "tis",
        }
    }
}

/// How long the emulator may take to come up or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running swtpm; stopped when dropped.
pub(super) struct Tpm {
    device: TpmDevice,
    child: Child,
    state: PathBuf,
    socket: PathBuf,
}

impl Tpm {
    /// Starts the emulator and waits until QEMU can connect.
    pub(super) fn start(device: &TpmDevice, scratch: &Path) -> Result<Self> {
        let (state, socket) = (scratch.join("tpm"), scratch.join("tpm.sock"));
        fs::create_dir(&state).context("creating the TPM's state directory")?;
        if let Some(kept) = &device.state {
            fs::create_dir_all(kept).with_context(|| format!("creating {}", kept.display()))?;
            copy_state(kept, &state)?;
        }
        let mut command = dying_with_us("swtpm");
        command.args(["socket", "--tpm2", "--terminate"]);
        command.arg("--tpmstate").arg(format!("dir={}", state.display()));
        command.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("starting swtpm")?;
        let mut tpm = Self { device: device.clone(), child, state, socket };
        let deadline = Instant::now() + PATIENCE;
        while !tpm.socket.exists() {
            if let Some(status) = tpm.child.try_wait().context("looking after swtpm")? {
                bail!("swtpm ended early: {status}");
            }
            if Instant::now() > deadline {
                bail!("swtpm does not open its socket");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(tpm)
    }

    /// QEMU's options for it.
    pub(super) fn options(&self) -> Vec<String> {
        let socket = format!("socket,id=tpmchar,path={}", self.socket.display());
        let device = format!("tpm-{},tpmdev=tpm0", self.device.interface.name());
        ["-chardev", &socket, "-tpmdev", "emulator,id=tpm0,chardev=tpmchar", "-device", &device]
            .map(str::to_owned)
            .to_vec()
    }

    /// Copies what the TPM remembers back, where a later boot is to have it. QEMU has ended, and so does the emulator.
    pub(super) fn keep_state(mut self) -> Result<()> {
        let Some(kept) = self.device.state.clone() else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().context("looking after swtpm")?.is_none() {
            if Instant::now() > deadline {
                bail!("swtpm does not end although QEMU has: its state may be incomplete");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        copy_state(&self.state, &kept)
    }
}

/// The state is a file or two. Others, such as the emulator's lock, are no part of it.
fn copy_state(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        if Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "permall") {
            let target = to.join(entry.file_name());
            fs::copy(entry.path(), &target).with_context(|| format!("writing {}", target.display()))?;
        }
    }
    Ok(())
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // It usually has ended with QEMU's connection; both calls then say so, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_tpm_remembers_is_copied() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (file, text) in [("tpm2-00.permall", "new"), (".lock", ""), ("tpm2-00.volatilestate", "RAM")] {
            fs::write(from.path().join(file), text).unwrap();
        }
        fs::write(to.path().join("tpm2-00.permall"), "old").unwrap();
        copy_state(from.path(), to.path()).unwrap();
        let there: Vec<_> =
            fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(there, ["tpm2-00.permall"]);
        assert_eq!(fs::read_to_string(to.path().join("tpm2-00.permall")).unwrap(), "new");
    }
}
