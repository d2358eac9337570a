//! The TPM emulator of one guest, with a fresh state.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::qemu::dying_with_us;

/// A running swtpm; stopped when dropped.
pub(super) struct Tpm {
    child: Child,
    socket: PathBuf,
}

impl Tpm {
    /// Starts the emulator and waits until QEMU can connect.
    pub(super) fn start(directory: &Path) -> Result<Self> {
        let (state, socket) = (directory.join("tpm"), directory.join("tpm.sock"));
        std::fs::create_dir(&state).context("creating the TPM's state directory")?;
        let mut command = dying_with_us("swtpm");
        command.args(["socket", "--tpm2", "--terminate"]);
        command.arg("--tpmstate").arg(format!("dir={}", state.display()));
        command.arg("--ctrl").arg(format!("type=unixio,path={}", socket.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut tpm = Self { child: command.spawn().context("starting swtpm")?, socket };
        let deadline = Instant::now() + Duration::from_secs(10);
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

    /// QEMU's options for it. CRB is what current firmware TPMs present.
    pub(super) fn options(&self) -> Vec<String> {
        let socket = format!("socket,id=tpmchar,path={}", self.socket.display());
        ["-chardev", &socket, "-tpmdev", "emulator,id=tpm0,chardev=tpmchar", "-device", "tpm-crb,tpmdev=tpm0"]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // It usually has ended with QEMU's connection; both calls then say so, and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
