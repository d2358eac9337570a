//! `enforcer attest` and `enforcer verify-evidence`.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Format, Outcome, output};
use crate::{
    admission::{Measurements, Places, held_still},
    bundle::{
        anchors::{ANCHORS, Anchors},
        signed::SignedFile,
    },
    evidence::{Evidence, Logs, NOT_PROVED, quoted_pcrs},
    intake::{self, connect},
    measured::{pcr::PcrValue, systemd::SYSTEMD_LOG},
    session::{Lock, RUNTIME_DIR},
    tpm::Name,
};

/// Hands out evidence of what this machine enforces, for the nonce of whoever wants to know.
#[derive(Debug, clap::Args)]
pub(super) struct AttestArgs {
    /// The verifier's nonce: 32 bytes in hexadecimal, never used before
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: [u8; 32],
    /// What this machine trusts
    #[arg(long, value_name = "FILE", default_value = ANCHORS)]
    anchors: PathBuf,
    /// Where to; standard output unless given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Verifies evidence on another machine, and says what it proves and what it does not.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// What `enforcer attest` gave
    #[arg(value_name = "FILE")]
    evidence: PathBuf,
    /// The nonce that the machine was given
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: [u8; 32],
    /// The machine's anchors, as they were noted at enrolment: keys and the Name of the attestation key
    #[arg(long, value_name = "FILE")]
    anchors: PathBuf,
    /// Name of the machine's attestation key, if the anchors are another machine's
    #[arg(long, value_name = "NAME", value_parser = ak_name)]
    ak_name: Option<Name>,
    /// A digest that systemd measures on this machine without logging what it is of, such as a volume key's, as it was
    /// noted at enrolment. May be given more than once
    #[arg(long = "known", value_name = "SHA256")]
    known: Vec<PcrValue>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn nonce(text: &str) -> Result<[u8; 32], String> {
    let mut nonce = [0; 32];
    hex::decode_to_slice(text, &mut nonce)
        .map_err(|error| format!("{error}; 32 bytes in hexadecimal, as from `openssl rand -hex 32`"))?;
    Ok(nonce)
}

fn ak_name(text: &str) -> Result<Name, String> {
    let mut name = [0; 34];
    hex::decode_to_slice(text, &mut name).map_err(|error| error.to_string())?;
    Ok(name)
}

pub(super) fn attest(args: &AttestArgs) -> Result<Outcome> {
    let anchors = Anchors::read(&args.anchors)?;
    let places = Places::default();
    // Nobody admits anything in between, so logs, values and bundle belong together.
    let _lock = Lock::acquire(Path::new(RUNTIME_DIR))?;
    let tpm = connect(&anchors)?;
    let pcrs = quoted_pcrs();
    let (values, quote) = held_still(&tpm, &pcrs, || {
        let quote = tpm.tpm().quote(&args.nonce, &pcrs)?;
        let composite = quote.verify(tpm.ak_name(), &args.nonce, &pcrs)?.composite;
        Ok((composite, quote))
    })?;
    let measurements = Measurements::open(&places, &anchors)?.bytes()?;
    let bundle = intake::bundle_in_force(&places)
        .map(|bytes| SignedFile::parse(&bytes))
        .transpose()
        .context("the kept bundle cannot be read")?;
    let logs = Logs {
        firmware: std::fs::read(&places.firmware_log).ok(),
        measurements,
        systemd: std::fs::read(SYSTEMD_LOG).ok(),
    };
    let evidence = Evidence::of(&quote, values, &logs, bundle).to_json()? + "\n";
    match &args.output {
        Some(path) => output::replace(path, evidence.as_bytes())?,
        None => print!("{evidence}"),
    }
    Ok(Outcome::Well)
}

pub(super) fn verify(args: &VerifyArgs) -> Result<Outcome> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let text = String::from_utf8(read(&args.anchors)?).context("the anchors are not text")?;
    let anchors = Anchors::parse(&text, &args.anchors)?;
    let pinned = anchors.tpm.ak_name.as_deref().map(ak_name).transpose().map_err(anyhow::Error::msg)?;
    let ak_name = args
        .ak_name
        .or(pinned)
        .context("no attestation key to verify with: the anchors pin none, so give --ak-name")?;
    let known = args.known.iter().copied().collect();
    let verdict = Evidence::parse(&read(&args.evidence)?)?.verify(&ak_name, &args.nonce, &anchors, &known)?;
    let well = verdict.same_anchors && verdict.state.is_some() && verdict.denies_all.is_none();
    match args.format {
        Format::Json => println!("{}", json!({ "well": well, "proved": verdict, "not_proved": NOT_PROVED })),
        Format::Text => {
            let time = humantime::format_rfc3339_seconds(SystemTime::now());
            println!("evidence verified at {time}");
            println!("  attestation key  {}", hex::encode(ak_name));
            let kind = if verdict.break_glass { "BREAK-GLASS policy" } else { "policy" };
            println!("  {kind}  {} version {} ({})", verdict.policy, verdict.version, verdict.statement);
            println!("  sealed  {}", if verdict.sealed { "yes" } else { "no" });
            for (name, digest) in &verdict.files {
                println!("    {digest}  {name}");
            }
            println!("  BPF object  {}", verdict.object);
            match &verdict.state {
                Some(state) => println!("  platform state  {state}"),
                None => println!("  platform state  NONE of those that the policy is for"),
            }
            let explained: Vec<String> = verdict.explained.iter().map(ToString::to_string).collect();
            if explained.is_empty() {
                println!("  boot log  none came with it: PCR values are proved, what led to them is not");
            } else {
                println!("  boot log  leads to PCR {}", explained.join(", "));
            }
            for other in &verdict.others {
                println!("  measured by systemd  {}", output::printable(other));
            }
            if let Some(reason) = &verdict.denies_all {
                println!("  NOTHING IS ALLOWED to any workload: {reason}");
            }
            if !verdict.same_anchors {
                println!("  the machine's anchors are NOT these");
            }
            println!("not proved:");
            for line in NOT_PROVED {
                println!("  - {line}");
            }
        }
    }
    Ok(if well { Outcome::Well } else { Outcome::NotWell })
}
