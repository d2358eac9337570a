//! `cargo xtask demo`

use std::process::ExitCode;

use anyhow::Result;

use super::vm;
use crate::ui;

/// Show what the enforcer is for: attack a vulnerable service in a VM, without it and with it.
///
/// Boots Debian with systemd, a web application with a hole (tests/demo) and nginx. The same attacks go through the
/// hole twice. Succeeds only if each worked without the enforcer, each was stopped with it, nothing reached the
/// attacker, every refusal was reported, and the services kept serving.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel to boot: 6.12, 6.12.107 or a full release.
    #[arg(long, value_name = "V", default_value = "6.12")]
    kernel: String,
}

/// Seconds for the whole story on an emulated CPU.
const LIMIT_S: u64 = 600;

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    ui::note("building, then booting a VM with systemd; the first time takes some minutes more");
    vm::run(vm::Args::systemd(&args.kernel, "demo-driver", LIMIT_S))
}
