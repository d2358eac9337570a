//! `cargo xtask stress`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::vm;
use crate::{paths, ui};

/// Run every known attack over and over, several attackers at a time, beside a service that has work to do, while
/// policies are swapped.
///
/// Fails when an attack succeeds, when something is refused to the service, when the kernel complains, when a process
/// loses its label, and when a refusal is neither reported nor counted as lost. The figures, per attack, are printed
/// and written to target/stress/stress.json.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel to boot: 6.12, 6.12.107 or a full release.
    #[arg(long, value_name = "V", default_value = "6.12")]
    kernel: String,
    /// How long to attack.
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Attackers at a time, each with the whole catalogue.
    #[arg(long, value_name = "N", default_value_t = 8)]
    attackers: u64,
    /// Only this attack, instead of the whole catalogue. Can be given several times.
    #[arg(long, value_name = "ATTACK")]
    only: Vec<String>,
}

/// Seconds for what comes before and after, on an emulated CPU that others use, too.
const AROUND_S: u64 = 1200;

/// For the event log, which lies in memory.
const MEMORY_MIB: u32 = 3072;

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let share: PathBuf = paths::target().join("stress");
    std::fs::create_dir_all(&share).with_context(|| format!("creating {}", share.display()))?;
    ui::note("building, then each attack once without a policy; that alone takes some minutes");
    let (minutes, attackers) = (args.minutes.to_string(), args.attackers.to_string());
    let mut command = vec!["stress", "--minutes", &minutes, "--attackers", &attackers];
    command.extend(args.only.iter().flat_map(|attack| ["--only", attack]));
    let guest = vm::Args::running(&args.kernel, &command, args.minutes * 60 + AROUND_S);
    let status = vm::run(guest.sharing(share.clone()).memory_mib(MEMORY_MIB))?;
    ui::note(&format!("figures in {}", share.join("stress.json").display()));
    Ok(status)
}
