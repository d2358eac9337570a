//! `cargo xtask demo`

use std::fs::File;
use std::io::Read;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::build::{self, Profile};
use super::vm;
use crate::paths::Cache;
use crate::ui;

/// Show what the enforcer is for: attack a vulnerable service in a VM, without it and with it.
///
/// Boots Debian with systemd, a web application with a hole (tests/demo) and nginx. The same attacks go through the
/// hole twice. The policies are signed for the state that the VM booted into, and admitted by its TPM. Succeeds only if
/// each attack worked without the enforcer, each was stopped with it, nothing reached the attacker, every refusal was
/// reported, the services kept serving, tampered and rolled-back policies were refused, and the evidence that the VM gave
/// was verified outside it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel to boot: 6.12, 6.12.107 or a full release.
    #[arg(long, value_name = "V", default_value = "6.12")]
    kernel: String,
}

/// Seconds for the whole story on an emulated CPU.
const LIMIT_S: u64 = 600;

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    ui::note("building, then booting a VM with systemd and a TPM; the first time takes some minutes more");
    let share = tempfile::tempdir().context("a directory for evidence")?;
    let nonce = nonce()?;
    std::fs::write(share.path().join("nonce"), &nonce).context("writing the nonce")?;
    let status = vm::run(vm::Args::demo(&args.kernel, "demo-driver", LIMIT_S, share.path()))?;
    if status != ExitCode::SUCCESS {
        return Ok(status);
    }
    ui::note("the evidence, verified outside the VM:");
    let programs = build::programs(&Cache::open()?, Profile::Dev)?;
    let enforcer =
        programs.iter().find(|program| program.name == "enforcer").context("the enforcer was not built")?;
    let verified = Command::new(&enforcer.file)
        .args(["verify-evidence", "--nonce", &nonce, "--anchors"])
        .arg(share.path().join("anchors.toml"))
        .arg(share.path().join("evidence.json"))
        .status()
        .context("running enforcer verify-evidence")?;
    Ok(if verified.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// 32 bytes that nobody could know before.
fn nonce() -> Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(hex::encode(bytes))
}
