//! `enforcer anchors`.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{Outcome, output};
use crate::bundle::{
    anchors::{
        Anchors, Consent, DEFAULT_BREAK_GLASS_SLOT, DEFAULT_SLOT, OnRefuse, Role, TpmMode, Written,
        WrittenKey, WrittenTpm,
    },
    approval::{self, SlotPlan},
    key::{PublicKey, SecretKey},
};

/// Writes the anchors of machines: which policy they take, whose signatures count, what the TPM has to prove. Made where
/// the slot key is; `enforcer tpm enroll` on each machine adds what is the machine's own.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which policy the machines take
    #[arg(long, value_name = "ID", required_unless_present = "unsigned")]
    policy: Option<String>,
    /// A key that may sign policies. May be given more than once
    #[arg(long = "key", value_name = "NAME=FILE", value_parser = named)]
    keys: Vec<(String, PathBuf)>,
    /// How many of them have to sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    threshold: usize,
    /// A key that may sign break-glass policies, and nothing else. May be given more than once
    #[arg(long = "break-glass-key", value_name = "NAME=FILE", value_parser = named)]
    break_glass_keys: Vec<(String, PathBuf)>,
    /// How many of them have to sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    break_glass_threshold: usize,
    /// The key that approves what is written to the TPM's slots: the private half, for the slots' first records
    #[arg(long, value_name = "FILE")]
    slot_key: Option<PathBuf>,
    /// The machines have no TPM. Policies have to agree (`enforcer sign --no-tpm`), and old versions are kept away by a
    /// file only
    #[arg(long, conflicts_with = "slot_key")]
    no_tpm: bool,
    /// Take policies that nobody signed, if whoever runs `enforcer` says `--insecure-unsigned` as well
    #[arg(long)]
    unsigned: bool,
    /// What to do when what should be in force is refused
    #[arg(long, value_enum, default_value_t)]
    on_refuse: OnRefuseArg,
    /// Where to; standard output unless given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum OnRefuseArg {
    /// Keep what was admitted last
    #[default]
    LastGood,
    /// Deny everything to every workload
    DenyAll,
}

/// `NAME=FILE`.
pub(super) fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("write NAME=FILE".into()),
    }
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    if !args.keys.is_empty() && args.slot_key.is_none() && !args.no_tpm {
        bail!("--slot-key is missing; machines without a TPM take --no-tpm");
    }
    let mut keys = BTreeMap::new();
    for (role, named) in [(Role::Policy, &args.keys), (Role::BreakGlass, &args.break_glass_keys)] {
        for (name, file) in named {
            let public = PublicKey::read(file)?.to_pem()?;
            if keys.insert(name.clone(), WrittenKey { role, public }).is_some() {
                bail!("two keys are named {name}");
            }
        }
    }
    let mut tpm = WrittenTpm {
        mode: if args.no_tpm { TpmMode::Off } else { TpmMode::Require },
        ..WrittenTpm::default()
    };
    if let Some(file) = &args.slot_key {
        let key = SecretKey::read(file)?;
        let first = |index| {
            let approved = SlotPlan::new(index, &key.public()).approved_first();
            BASE64.encode(approval::sign(&key, &approved).to_der())
        };
        tpm.slot_key = Some(key.public().to_pem()?);
        tpm.genesis = Some([first(DEFAULT_SLOT), first(DEFAULT_BREAK_GLASS_SLOT)]);
    }
    let written = Written {
        policy: args.policy.clone(),
        threshold: (!keys.is_empty()).then_some(args.threshold),
        break_glass_threshold: (!args.break_glass_keys.is_empty()).then_some(args.break_glass_threshold),
        on_refuse: match args.on_refuse {
            OnRefuseArg::LastGood => OnRefuse::LastGood,
            OnRefuseArg::DenyAll => OnRefuse::DenyAll,
        },
        unsigned: if args.unsigned { Consent::Allow } else { Consent::Refuse },
        keys,
        tpm,
    };
    let text = toml::to_string_pretty(&written).context("cannot write the anchors")?;
    let path = args.output.clone().unwrap_or_else(|| "anchors.toml".into());
    // What a machine would refuse is not written.
    Anchors::parse(&text, &path)?;
    match &args.output {
        None => print!("{text}"),
        Some(path) => output::create_new(path, text.as_bytes())?,
    }
    Ok(Outcome::Well)
}
