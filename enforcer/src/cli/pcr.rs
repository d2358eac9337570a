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
    measured::{
        firmware::FirmwareLog,
        pcr::{PcrIndex, PcrValues, what_a_pcr_measures},
        predict::{
            exchange::{Exchange, ExchangeError, exchange},
            pe::Image,
            uki::{Phase, Uki},
        },
    },
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
    /// Write down what the PCRs will hold after a change of what is booted, so that policies for it can be signed before
    Predict(PredictArgs),
}

/// From the log of this boot with something exchanged, or for a unified kernel image.
#[derive(Debug, clap::Args)]
struct PredictArgs {
    /// The firmware's event log of a boot of the machine
    #[arg(long, value_name = "FILE", default_value = "/sys/kernel/security/tpm0/binary_bios_measurements")]
    log: PathBuf,
    /// The next boot's kernel command line, where Linux' EFI stub measures it (PCR 9)
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<String>,
    /// The next boot's initrd, where Linux' EFI stub measures it (PCR 9)
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// What the firmware will start instead (PCR 4): the path in the log, and the new file
    #[arg(long, value_name = "EFIPATH=FILE", value_parser = super::anchors::named)]
    image: Option<(String, PathBuf)>,
    /// The next boot's unified kernel image (PCR 11 when services run; give it as --image as well for PCR 4, which also
    /// has the kernel inside)
    #[arg(long, value_name = "FILE")]
    uki: Option<PathBuf>,
    /// Where to; standard output unless given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
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
        Command::Predict(args) => predict(args)?,
    }
    Ok(Outcome::Well)
}

/// Only PCRs that the log or the image decides are written: 0 to 9, and 11 with a unified kernel image.
fn predict(args: &PredictArgs) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut log = FirmwareLog::parse(&read(&args.log)?)
        .with_context(|| format!("{} is no event log of firmware", args.log.display()))?;
    let mut changes = Vec::new();
    if let Some(command_line) = &args.cmdline {
        log = exchange(&log, &Exchange::CommandLine(command_line))?;
        changes.push(format!("command line {command_line:?}"));
    }
    if let Some(initrd) = &args.initrd {
        log = exchange(&log, &Exchange::Initrd(&read(initrd)?))?;
        changes.push(format!("initrd {}", initrd.display()));
    }
    if let Some((path, file)) = &args.image {
        let bytes = read(file)?;
        let image = Image::parse(&bytes).with_context(|| format!("{} is no EFI program", file.display()))?;
        log = exchange(&log, &Exchange::Application { path, image: &image })?;
        changes.push(format!("{path} is {}", file.display()));
    }
    let uki = args.uki.as_ref().map(|file| Ok::<_, anyhow::Error>((file, read(file)?))).transpose()?;
    let uki = uki.as_ref().map(|(file, bytes)| {
        let uki = Uki::parse(bytes).with_context(|| {
            format!("{} is no unified kernel image whose PCR 11 is certain", file.display())
        })?;
        Ok::<_, anyhow::Error>((file, uki))
    });
    let uki = uki.transpose()?;
    if let (Some((_, uki)), Some(_)) = (&uki, &args.image) {
        log = with_inner_kernel(log, uki)?;
    }
    let mut values: PcrValues = log.replay().iter().filter(|(pcr, _)| pcr.number() < 10).collect();
    if let Some((file, uki)) = &uki {
        values.insert(PcrIndex::UNIFIED_KERNEL, uki.pcr_11(&Phase::ALL));
        changes.push(format!("unified kernel image {}", file.display()));
    }
    if changes.is_empty() {
        bail!("nothing changes; say what will, with --cmdline, --initrd, --image or --uki");
    }
    Capture::of(values, format!("predicted: {}", changes.join(", "))).write(args.output.as_deref())
}

/// The log with the kernel inside a unified kernel image exchanged, if the stub of the logged boot had it measured.
fn with_inner_kernel(log: FirmwareLog, uki: &Uki<'_>) -> Result<FirmwareLog> {
    let Ok(kernel) = uki.kernel() else { return Ok(log) };
    match exchange(&log, &Exchange::InnerKernel(&kernel)) {
        Ok(changed) => Ok(changed),
        Err(ExchangeError::Missing(_)) => Ok(log),
        Err(error) => Err(error.into()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::{
        pcr::{PcrValue, extend},
        predict::testing::Program,
    };

    /// The log of a boot of a unified kernel image.
    const UKI_LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/measured/ovmf-uki-6.12-tis.log");
    const UKI_PATH: &str = "\\EFI\\BOOT\\BOOTX64.EFI";

    fn args(directory: &Path) -> PredictArgs {
        PredictArgs {
            log: UKI_LOG.into(),
            cmdline: None,
            initrd: None,
            image: None,
            uki: None,
            output: Some(directory.join("state.json")),
        }
    }

    fn predicted(args: &PredictArgs) -> PcrValues {
        predict(args).unwrap();
        Capture::read(args.output.as_ref().unwrap()).unwrap().pcrs
    }

    #[test]
    fn the_next_unified_kernel_image_is_predicted() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = Program::new(&[(b".text", b"the next kernel")]).build();
        let image =
            Program::new(&[(b".linux", &kernel), (b".cmdline", b"quiet"), (b".initrd", b"the next initrd")])
                .build();
        let file = directory.path().join("next.efi");
        std::fs::write(&file, &image).unwrap();
        let log = FirmwareLog::parse(&std::fs::read(UKI_LOG).unwrap()).unwrap();
        // PCR 11 alone: what the firmware started stays what it was.
        let eleven = predicted(&PredictArgs { uki: Some(file.clone()), ..args(directory.path()) });
        assert_eq!(
            eleven.get(PcrIndex::UNIFIED_KERNEL),
            Some(Uki::parse(&image).unwrap().pcr_11(&Phase::ALL))
        );
        assert_eq!(eleven.get(PcrIndex::BOOT_APPLICATIONS), Some(log.replay_of(PcrIndex::BOOT_APPLICATIONS)));
        // PCR 4 as well: the image, and the kernel inside, which its stub has the firmware start.
        let both = predicted(&PredictArgs {
            uki: Some(file.clone()),
            image: Some((UKI_PATH.into(), file)),
            ..args(directory.path())
        });
        let digests = [&image, &kernel].map(|bytes| Image::parse(bytes).unwrap().authenticode());
        let mut next = digests.iter();
        let expected = log.events_of(PcrIndex::BOOT_APPLICATIONS).fold(
            PcrIndex::BOOT_APPLICATIONS.start(),
            |value, event| {
                let application =
                    event.kind == crate::measured::firmware::event::EventKind::EFI_BOOT_SERVICES_APPLICATION;
                let digest: PcrValue = if application { *next.next().unwrap() } else { event.digest };
                extend(value, digest)
            },
        );
        assert_eq!(next.next(), None);
        assert_eq!(both.get(PcrIndex::BOOT_APPLICATIONS), Some(expected));
        assert_eq!(both.get(PcrIndex::UNIFIED_KERNEL), eleven.get(PcrIndex::UNIFIED_KERNEL));
    }

    #[test]
    fn what_cannot_be_predicted_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let nothing = predict(&args(directory.path())).unwrap_err();
        assert!(nothing.to_string().contains("nothing changes"), "{nothing}");
        let file = directory.path().join("not-an-image");
        std::fs::write(&file, b"MZ").unwrap();
        let error = predict(&PredictArgs { uki: Some(file.clone()), ..args(directory.path()) }).unwrap_err();
        assert!(error.to_string().contains("no unified kernel image"), "{error}");
        let elsewhere = Some(("\\EFI\\none.efi".into(), file));
        let error = predict(&PredictArgs { image: elsewhere, ..args(directory.path()) }).unwrap_err();
        assert!(error.to_string().contains("no EFI program"), "{error}");
        assert!(!directory.path().join("state.json").exists());
    }
}
