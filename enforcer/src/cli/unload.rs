//! `enforcer unload`.

use std::path::Path;

use anyhow::{Result, bail};

use super::Outcome;
use crate::{
    kernel::{attach, pin::Pins, seal, state::StateFile},
    session::{DaemonLock, Lock, RUNTIME_DIR},
};

/// Detaches all programs, removes all pins and forgets all policies. Every workload is unrestricted afterwards.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Yes, turn enforcement off
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    if !args.yes {
        bail!("this turns enforcement off for every workload; if that is what you want, add `--yes`");
    }
    if seal::is_sealed(&Pins::default()) {
        bail!("this machine is sealed: sign a bundle with `--seal off` for it, or restart it");
    }
    let runtime = Path::new(RUNTIME_DIR);
    if DaemonLock::is_held(runtime) {
        bail!("a daemon is running; stop it first (`systemctl stop enforcer`, or SIGTERM)");
    }
    let _lock = Lock::acquire(runtime)?;
    attach::unload(&Pins::default())?;
    StateFile::in_directory(runtime).remove()?;
    println!("enforcement is off");
    Ok(Outcome::Well)
}
