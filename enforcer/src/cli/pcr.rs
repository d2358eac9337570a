//! `enforcer pcr`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Format, Outcome, output};
use crate::{
    measured::pcr::{PcrIndex, PcrValues, what_a_pcr_measures},
    tpm::{DEADLINE, Tcti, Tpm},
};

/// Shows and notes what a platform's PCRs hold: the states that policies are bound to.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what the PCRs hold now, and what each measures
    Show {
        #[command(flatten)]
        tpm: TpmArgs,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Write down what the PCRs hold now, for `enforcer sign --bind LABEL=FILE`
    Capture {
        #[command(flatten)]
        tpm: TpmArgs,
        /// Where to; standard output unless given
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Which TPM.
#[derive(Debug, clap::Args)]
pub(super) struct TpmArgs {
    /// The TPM: device:PATH, or swtpm:host=127.0.0.1,port=N for an emulator
    #[arg(long, value_name = "TCTI", default_value_t = Tcti::first_device())]
    pub(super) tcti: Tcti,
}

/// A platform state, written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    /// Always `sha256`.
    bank: String,
    /// The values.
    pub(super) pcrs: PcrValues,
    /// Where they are from, for people.
    #[serde(default)]
    origin: String,
}

impl Capture {
    /// Reads one.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let capture: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not what `enforcer pcr capture` writes", path.display()))?;
        if capture.bank != "sha256" {
            bail!("{} holds values of bank {:?}, not \"sha256\"", path.display(), capture.bank);
        }
        Ok(capture)
    }

    /// Of these values.
    pub(super) fn of(pcrs: PcrValues, origin: String) -> Self {
        Self { bank: "sha256".into(), pcrs, origin }
    }

    /// Writes it, to standard output if there is no path.
    pub(super) fn write(&self, path: Option<&Path>) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        match path {
            Some(path) => output::replace(path, text.as_bytes()),
            None => {
                print!("{text}");
                Ok(())
            }
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    match &args.command {
        Command::Show { tpm, format } => {
            let values = read(&tpm.tcti, PcrIndex::all().collect())?;
            match format {
                Format::Json => println!("{}", serde_json::to_string_pretty(&values)?),
                Format::Text => show(&values),
            }
        }
        Command::Capture { tpm, output } => {
            let values = read(&tpm.tcti, PcrIndex::all().filter(|pcr| pcr.number() < 16).collect())?;
            let time = humantime::format_rfc3339_seconds(SystemTime::now());
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            let origin = format!("{} with kernel {} at {time}", host.trim(), kernel.trim());
            Capture::of(values, origin).write(output.as_deref())?;
        }
    }
    Ok(Outcome::Well)
}

fn read(tcti: &Tcti, pcrs: BTreeSet<PcrIndex>) -> Result<PcrValues> {
    Ok(Tpm::open(tcti, DEADLINE)?.read_pcrs(&pcrs)?)
}

fn show(values: &PcrValues) {
    for (pcr, value) in values.iter() {
        let note = if value == pcr.start() { "  (nothing measured)" } else { "" };
        println!("{pcr:>2}  {value}{note}");
        println!("    {}", what_a_pcr_measures(pcr));
    }
}
