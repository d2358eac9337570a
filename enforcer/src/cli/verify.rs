//! `enforcer verify`.

use std::{path::PathBuf, time::SystemTime};

use anyhow::{Result, bail};
use serde_json::json;

use super::{Format, Outcome};
use crate::{
    bundle::{
        anchors::{ANCHORS, Anchors},
        approval::Digest,
        signed::SignedSet,
        sources::{self, Sources},
    },
    kernel::load::object_sha256,
};

/// Checks a bundle against anchors, without a TPM and without root: signatures, files, age. Whether a machine is in one of
/// the states that it is for, only that machine can tell.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A bundle (*.pcrsig.json), or a directory with one
    #[arg(required = true, value_name = "BUNDLE|DIR")]
    paths: Vec<PathBuf>,
    /// The anchors to check against
    #[arg(long, value_name = "FILE", default_value = ANCHORS)]
    anchors: PathBuf,
    /// The time to check for; now unless given
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339)]
    at: Option<SystemTime>,
    /// SHA-256 of the BPF object that has to be named; this version's unless given
    #[arg(long, value_name = "SHA256", value_parser = super::sign::sha256)]
    object: Option<Digest>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    let text = std::fs::read_to_string(&args.anchors)
        .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", args.anchors.display()))?;
    let anchors = Anchors::parse(&text, &args.anchors)?;
    let Sources::Bundle(files) = sources::read(&args.paths)? else {
        bail!("there is no bundle (*.pcrsig.json) among these; sign the policies with `enforcer sign`");
    };
    let object = args.object.unwrap_or_else(object_sha256);
    let set = SignedSet::open(files, &anchors, &object, args.at.unwrap_or_else(SystemTime::now))?;
    let names = |id: &str| {
        let key = anchors.keys.iter().find(|(_, key)| key.public.id().as_str() == id);
        key.map_or_else(|| id.to_owned(), |(name, _)| name.clone())
    };
    let signers: Vec<String> = set.signers().iter().map(|id| names(id.as_str())).collect();
    let statement = set.statement();
    let unapproved: Vec<&str> = match (anchors.tpm.plan(statement.break_glass), &anchors.tpm.slot_key) {
        (Some(plan), Some(key)) => statement
            .bindings
            .iter()
            .enumerate()
            .filter(|(index, _)| set.approval(*index, &plan, key).is_none())
            .map(|(_, binding)| binding.label.as_str())
            .collect(),
        _ => Vec::new(),
    };
    if !unapproved.is_empty() {
        bail!(
            "the slot key did not approve it for {}; sign it with `--slot-key`, for the slot that the anchors name",
            unapproved.join(", ")
        );
    }
    let not_after = statement.not_after.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    match args.format {
        Format::Json => println!(
            "{}",
            json!({
                "policy": statement.policy,
                "version": statement.version,
                "statement": hex::encode(set.record().statement),
                "break_glass": statement.break_glass,
                "signers": signers,
                "states": statement.bindings.iter().map(|binding| json!({"label": binding.label, "pcrs": binding.pcrs}))
                    .collect::<Vec<_>>(),
                "not_after": not_after,
                "policies": statement.policies.keys().collect::<Vec<_>>(),
            })
        ),
        Format::Text => {
            let kind = if statement.break_glass { "break-glass policy" } else { "policy" };
            println!("{}: {kind} {} version {}", set.origin(), statement.policy, statement.version);
            println!("  signed by {}", signers.join(", "));
            for binding in &statement.bindings {
                let pcrs: Vec<String> = binding.pcrs.iter().map(|(pcr, _)| pcr.to_string()).collect();
                println!("  for platform state {} (PCR {})", binding.label, pcrs.join(", "));
            }
            if let Some(not_after) = not_after {
                println!("  until {not_after}");
            }
            for candidate in set.candidates() {
                println!("  {}  {} ({})", candidate.digest(), candidate.origin(), candidate.name());
            }
        }
    }
    Ok(Outcome::Well)
}
