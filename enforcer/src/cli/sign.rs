//! `enforcer sign`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::{Outcome, anchors::named, output, pcr::Capture};
use crate::{
    bundle::{
        anchors::{DEFAULT_BREAK_GLASS_SLOT, DEFAULT_SLOT},
        approval::{Digest, SlotPlan},
        key::SecretKey,
        signed::{ENDING, SignedFile},
        sources::{self, Mistakes, Sources, SourcesError},
        statement::{BREAK_GLASS_PCR, Binding, NoTpm, Seal, Statement, unbindable},
        verify::Candidate,
    },
    kernel::load::object_sha256,
    measured::pcr::PcrIndex,
};

/// Signs policies for platform states. Needs no TPM: states are captured on machines with `enforcer pcr capture`, or
/// predicted with `enforcer pcr predict`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Policy files, or a directory of *.toml: the whole set of a machine
    #[arg(required_unless_present = "add_to", value_name = "FILE|DIR")]
    policies: Vec<PathBuf>,
    /// Which policy this is a version of; machines' anchors name it
    #[arg(long, value_name = "ID", required_unless_present = "add_to")]
    policy: Option<String>,
    /// Its version. Machines refuse what is not higher than what they had
    #[arg(long, value_name = "N", required_unless_present = "add_to")]
    version: Option<u64>,
    /// A platform state it is for. May be given more than once: a machine has to be in one of them
    #[arg(long = "bind", value_name = "LABEL=FILE", value_parser = named)]
    bindings: Vec<(String, PathBuf)>,
    /// PCRs of these states that count. For unified kernel images 7,11; otherwise 4,7,9, with GRUB 4,7,8,9
    #[arg(long = "pcr", value_name = "N,…", value_delimiter = ',')]
    pcrs: Vec<PcrIndex>,
    /// A key to sign with. May be given more than once
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// The key that approves what is written to the machines' TPM slots
    #[arg(long, value_name = "FILE")]
    slot_key: Option<PathBuf>,
    /// NV index of the slot, if the anchors say another than usual
    #[arg(long, value_name = "INDEX", value_parser = nv_index)]
    slot: Option<u32>,
    /// Machines whose anchors say that they have no TPM may take it
    #[arg(long)]
    no_tpm: bool,
    /// Until when it may be admitted: a time (2027-01-31T00:00:00Z) or how long from now (30d)
    #[arg(long, value_name = "TIME", value_parser = until)]
    not_after: Option<SystemTime>,
    /// The one machine it is for, by its attestation key's Name, as `enforcer tpm status` shows it
    #[arg(long, value_name = "NAME")]
    ak_name: Option<String>,
    /// For emergencies: for one machine, until a certain time, whatever it booted as long as PCR 7 is the same
    #[arg(long, requires = "ak_name", requires = "not_after", conflicts_with = "no_tpm")]
    break_glass: bool,
    /// Seal the machine once this is in force, so that nobody but the daemon changes anything of Enforcer's, root included;
    /// or unseal it. What is stays unless given
    #[arg(long, value_name = "on|off", value_parser = seal)]
    seal: Option<Seal>,
    /// SHA-256 of a BPF object that may enforce it, in addition to this version's. May be given more than once
    #[arg(long = "object", value_name = "SHA256", value_parser = sha256)]
    objects: Vec<Digest>,
    /// Where to; ID.pcrsig.json beside the policies unless given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Add signatures to a bundle that others signed already
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["policies", "policy", "version", "bindings"])]
    add_to: Option<PathBuf>,
}

fn nv_index(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").ok_or("write it as 0x01800e10")?;
    u32::from_str_radix(digits, 16).map_err(|error| error.to_string())
}

pub(super) fn sha256(text: &str) -> Result<Digest, String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|error| error.to_string())?;
    Ok(digest)
}

fn seal(text: &str) -> Result<Seal, String> {
    match text {
        "on" => Ok(Seal::On),
        "off" => Ok(Seal::Off),
        _ => Err("write on or off".to_owned()),
    }
}

fn until(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = humantime::parse_rfc3339(text) {
        return Ok(time);
    }
    let long = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let end = SystemTime::now().checked_add(long).ok_or("that is too far away")?;
    let seconds = end.duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    let keys = args.keys.iter().map(|file| SecretKey::read(file)).collect::<Result<Vec<_>, _>>()?;
    if let Some(bundle) = &args.add_to {
        return add(bundle, &keys);
    }
    let (Some(policy), Some(version)) = (&args.policy, args.version) else {
        bail!("--policy and --version are missing");
    };
    let (policies, directory) = policies(&args.policies)?;
    let pcrs = pcrs(args)?;
    let statement = Statement {
        policies,
        objects: args.objects.iter().copied().chain([object_sha256()]).collect(),
        policy: policy.clone(),
        version,
        bindings: args
            .bindings
            .iter()
            .map(|(label, file)| binding(label, file, &pcrs))
            .collect::<Result<_>>()?,
        no_tpm: if args.no_tpm { NoTpm::Allow } else { NoTpm::Refuse },
        not_after: args.not_after,
        ak_name: args.ak_name.clone(),
        break_glass: args.break_glass,
        seal: args.seal,
    };
    let slot_key = args.slot_key.as_deref().map(SecretKey::read).transpose()?;
    if slot_key.is_none() && !statement.bindings.is_empty() {
        bail!("--slot-key is missing: without its approval no TPM takes the record of this version");
    }
    let usual = if args.break_glass { DEFAULT_BREAK_GLASS_SLOT } else { DEFAULT_SLOT };
    let plan = slot_key.as_ref().map(|key| SlotPlan::new(args.slot.unwrap_or(usual), &key.public()));
    let signed = SignedFile::sign(&statement, &keys, plan.as_ref().zip(slot_key.as_ref()))?;
    let path = args.output.clone().unwrap_or_else(|| directory.join(format!("{policy}{ENDING}")));
    if !path.to_string_lossy().ends_with(ENDING) {
        bail!("{} does not end in {ENDING}, so nobody would find it", path.display());
    }
    output::replace(&path, signed.to_json()?.as_bytes())?;
    println!(
        "{}: {policy} version {version}, {} policies, {}{}",
        path.display(),
        statement.policies.len(),
        states(&statement.bindings),
        sealing(statement.seal)
    );
    Ok(Outcome::Well)
}

fn states(bindings: &[Binding]) -> String {
    let labels: Vec<&str> = bindings.iter().map(|binding| binding.label.as_str()).collect();
    if labels.is_empty() { "for no platform state".into() } else { format!("for {}", labels.join(" or ")) }
}

const fn sealing(seal: Option<Seal>) -> &'static str {
    match seal {
        Some(Seal::On) => ", SEALS",
        Some(Seal::Off) => ", unseals",
        None => "",
    }
}

/// Adds signatures, after the one who signs has seen what.
fn add(bundle: &Path, keys: &[SecretKey]) -> Result<Outcome> {
    let bytes = std::fs::read(bundle).with_context(|| format!("cannot read {}", bundle.display()))?;
    let mut signed = SignedFile::parse(&bytes)?;
    let payload = signed.dsse_envelope.unverified_payload()?;
    let statement = Statement::parse(&payload)?;
    println!(
        "signing {} version {}, {}{}:",
        statement.policy,
        statement.version,
        states(&statement.bindings),
        sealing(statement.seal)
    );
    for (name, digest) in &statement.policies {
        println!("  {}  {name}", hex::encode(digest));
    }
    for key in keys {
        signed.dsse_envelope.sign(key)?;
    }
    output::replace(bundle, signed.to_json()?.as_bytes())?;
    println!("{} has {} signatures", bundle.display(), signed.dsse_envelope.signatures.len());
    Ok(Outcome::Well)
}

/// The policies' digests by file name, and where they lie. Policies with mistakes are not signed.
fn policies(paths: &[PathBuf]) -> Result<(BTreeMap<String, Digest>, PathBuf)> {
    let sources = match sources::read(paths)? {
        Sources::Unsigned(sources) => sources,
        // An older bundle lies in the directory.
        Sources::Bundle(files) => files.policies.into_values().collect(),
    };
    let (mut digests, mut directories, mut mistakes) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for source in sources {
        let path = PathBuf::from(&source.origin);
        let name = path.file_name().context("a policy has no file name")?.to_string_lossy().into_owned();
        directories.insert(path.parent().unwrap_or(Path::new("")).to_owned());
        digests.insert(name, Sha256::digest(&source.bytes).into());
        if let Err(error) = Candidate::compile(source) {
            mistakes.push(error);
        }
    }
    if !mistakes.is_empty() {
        return Err(SourcesError::Mistakes(Mistakes::of(mistakes)).into());
    }
    let mut directories = directories.into_iter();
    match (directories.next(), directories.next()) {
        (Some(only), None) => Ok((digests, only)),
        (None, _) => bail!("there is no policy to sign"),
        (Some(one), Some(other)) => {
            bail!(
                "policies of one bundle lie in one directory, not in {} and {}",
                one.display(),
                other.display()
            )
        }
    }
}

fn pcrs(args: &Args) -> Result<Vec<PcrIndex>> {
    if args.break_glass && args.pcrs.is_empty() {
        return Ok(PcrIndex::new(BREAK_GLASS_PCR).into_iter().collect());
    }
    if args.pcrs.is_empty() && !args.bindings.is_empty() {
        bail!("--pcr is missing: 7,11 for unified kernel images, otherwise 4,7,9, with GRUB 4,7,8,9");
    }
    match args.pcrs.iter().find(|pcr| !crate::bundle::statement::BINDABLE.contains(&pcr.number())) {
        Some(pcr) => bail!("{}", unbindable(pcr.number())),
        None => Ok(args.pcrs.clone()),
    }
}

fn binding(label: &str, file: &Path, pcrs: &[PcrIndex]) -> Result<Binding> {
    let capture = Capture::read(file)?;
    let Some(values) = capture.pcrs.select(pcrs.iter().copied()) else {
        bail!("{} has no value for some of the PCRs that were asked for", file.display());
    };
    for (pcr, value) in values.iter() {
        if value == pcr.start() {
            eprintln!(
                "warning: state {label}: nothing was measured into PCR {pcr}, so every boot without a measurement there \
                 fits"
            );
        }
    }
    Ok(Binding { label: label.to_owned(), pcrs: values })
}
