//! `enforcer tpm`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::{
    Format, Outcome,
    output::{self, Colour, paint, printable},
};
use crate::{
    admission::platform::first_write,
    bundle::{
        anchors::{ANCHORS, Anchors},
        approval::{SlotPlan, SlotRecord},
    },
    tpm::{
        DEADLINE, Identity, NvIndex, Tpm,
        certificate::{Certificate, CertificateError},
    },
};

/// Makes a machine's TPM its root of trust, and shows what it says.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Pin this machine's TPM in the anchors, and make the slots that remember what was admitted
    Enroll {
        #[command(flatten)]
        anchors: AnchorsArg,
        /// Replace pins of another TPM, and slots of another key. What was admitted before is forgotten
        #[arg(long)]
        replace: bool,
        /// Certificates of the TPM maker's authorities, in PEM or DER: enrol only a TPM whose endorsement certificate
        /// leads to one of them. May be given more than once
        #[arg(long, value_name = "FILE")]
        ek_ca: Vec<PathBuf>,
        /// Do not look at the endorsement certificate, for a TPM that holds a wrong one
        #[arg(long, conflicts_with = "ek_ca")]
        no_ek_certificate: bool,
    },
    /// Show the TPM, whether it is the pinned one, and what its slots hold
    Status {
        #[command(flatten)]
        anchors: AnchorsArg,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Remove the slots and the pins. What was admitted before is forgotten
    Unenroll {
        #[command(flatten)]
        anchors: AnchorsArg,
        /// Yes, forget
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct AnchorsArg {
    /// What this machine trusts
    #[arg(long, value_name = "FILE", default_value = ANCHORS)]
    anchors: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    match &args.command {
        Command::Enroll { anchors, replace, ek_ca, no_ek_certificate } => {
            let vouched = if *no_ek_certificate { Vouched::Unseen } else { Vouched::By(ek_ca) };
            enroll(&anchors.anchors, *replace, &vouched)
        }
        Command::Status { anchors, format } => status(&anchors.anchors, *format),
        Command::Unenroll { anchors, yes } => unenroll(&anchors.anchors, *yes),
    }
}

/// Who has to vouch for a TPM.
enum Vouched<'a> {
    /// Its certificate is not looked at.
    Unseen,
    /// One of these authorities; nobody, if there are none.
    By(&'a [PathBuf]),
}

impl Vouched<'_> {
    /// The certificate, if there is one that says something.
    fn certificate(&self, identity: &Identity) -> Result<Option<Certificate>> {
        let Self::By(authorities) = self else { return Ok(None) };
        let certificate = match Certificate::of(identity) {
            Ok(certificate) => certificate,
            Err(CertificateError::Missing { .. }) if authorities.is_empty() => return Ok(None),
            Err(error @ (CertificateError::OtherKey | CertificateError::Unreadable(_))) => {
                bail!(
                    "{error}. If you trust this TPM for other reasons, enrol it with `--no-ek-certificate`"
                );
            }
            Err(error) => return Err(error.into()),
        };
        if !authorities.is_empty() {
            let read = |path: &PathBuf| {
                let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                Ok((path.display().to_string(), bytes))
            };
            certificate.verify(&authorities.iter().map(read).collect::<Result<Vec<_>>>()?)?;
        }
        Ok(Some(certificate))
    }

    /// What that means.
    const fn said(&self, certificate: Option<&Certificate>) -> &'static str {
        match (self, certificate) {
            (Self::By([_, ..]), Some(_)) => "verified: an authority that you named vouches for this TPM",
            (Self::By(_), Some(_)) => "for this key, but nobody was named who could vouch for it (--ek-ca)",
            (Self::Unseen, _) => "not looked at: that this is a genuine TPM, you know for other reasons",
            (Self::By(_), None) => {
                "none for this key: that this is a genuine TPM, you know for other reasons"
            }
        }
    }
}

fn enroll(path: &Path, replace: bool, vouched: &Vouched<'_>) -> Result<Outcome> {
    let anchors = Anchors::read(path)?;
    let (Some(key), Some(genesis)) = (&anchors.tpm.slot_key, &anchors.tpm.genesis) else {
        bail!("the anchors have no slot key; make them with `enforcer anchors --slot-key`");
    };
    let tpm = Tpm::open(&anchors.tpm.tcti, DEADLINE)?;
    let identity = tpm.identity()?;
    tpm.prove_identity()?;
    let certificate = vouched.certificate(&identity)?;
    let (ek, ak) = (hex::encode(identity.ek_sha256), hex::encode(identity.ak_name));
    let is_pinned = |pin: &Option<String>, found: &String| pin.as_ref().is_none_or(|pin| pin == found);
    let pinned = is_pinned(&anchors.tpm.ek_sha256, &ek) && is_pinned(&anchors.tpm.ak_name, &ak);
    if !pinned && !replace {
        bail!(
            "the anchors pin another TPM; if this machine's was replaced, and you know why, enrol with `--replace`"
        );
    }
    for (break_glass, approval) in [false, true].into_iter().zip(genesis) {
        let plan = anchors.tpm.plan(break_glass).context("the anchors have no slot key")?;
        make_slot(&tpm, &plan, approval, key, replace)?;
    }
    let text = std::fs::read_to_string(path)?;
    let mut pins = vec![("ek_sha256", ek.clone()), ("ak_name", ak.clone())];
    if let Some(certificate) = &certificate {
        pins.push(("ek_certificate_sha256", hex::encode(certificate.sha256()?)));
        pins.push(("ek_certificate_issuer", certificate.issuer()));
    }
    let text = with_pins(&text, &pins);
    Anchors::parse(&text, path).context("the anchors would not be readable with the pins in them")?;
    output::replace(path, text.as_bytes())?;
    println!("{} pins this TPM:\n  endorsement key {ek}\n  attestation key {ak}", path.display());
    if let Some(certificate) = &certificate {
        println!("  its certificate {}", hex::encode(certificate.sha256()?));
        println!("        issued by {}", printable(&certificate.issuer()));
    }
    println!("  certificate     {}", vouched.said(certificate.as_ref()));
    println!(
        "keep a copy of the anchors where evidence is verified; policies for this machine alone are signed with --ak-name"
    );
    let info = tpm.info()?;
    if !info.lockout_auth_set && !info.clear_disabled {
        let warning = paint(&std::io::stderr(), Colour::Yellow, "warning:");
        eprintln!(
            "{warning} the lockout hierarchy has no authorization, so root can clear this TPM. A cleared one is refused, \
             not trusted; to keep root from it at all, set one (tpm2_changeauth -c lockout)"
        );
    }
    Ok(Outcome::Well)
}

/// Makes a slot with its empty record, or finds that it is there.
fn make_slot(
    tpm: &Tpm,
    plan: &SlotPlan,
    approval: &[u8],
    key: &crate::bundle::key::PublicKey,
    replace: bool,
) -> Result<()> {
    let index = NvIndex::try_from(plan.index)?;
    let found = tpm.slot(index)?;
    let is_ours = found.is_some_and(|slot| slot.name == plan.name(slot.written));
    match found {
        Some(_) if !is_ours && !replace => bail!(
            "NV index {index} is in use for something else, or for another slot key; say another in the anchors \
             (tpm.slot), or replace it with `--replace`"
        ),
        Some(_) if !is_ours || replace => {
            tpm.undefine_slot(index)?;
            tpm.define_slot(index, &plan.auth_policy())?;
        }
        Some(slot) if slot.written => return Ok(()),
        Some(_) => {}
        None => tpm.define_slot(index, &plan.auth_policy())?,
    }
    tpm.write_slot(&first_write(plan, approval, key)?)
        .context("the slot key's approval of the first record does not fit; make the anchors anew")?;
    Ok(())
}

fn status(path: &Path, format: Format) -> Result<Outcome> {
    let anchors = Anchors::read(path)?;
    let tpm = Tpm::open(&anchors.tpm.tcti, DEADLINE)?;
    let (info, identity) = (tpm.info()?, tpm.identity()?);
    let (ek, ak) = (hex::encode(identity.ek_sha256), hex::encode(identity.ak_name));
    let is_pinned = anchors.tpm.ek_sha256.as_ref() == Some(&ek) && anchors.tpm.ak_name.as_ref() == Some(&ak);
    let certificate = match Certificate::of(&identity) {
        Ok(certificate) => Ok((hex::encode(certificate.sha256()?), certificate.issuer())),
        Err(error) => Err(error.to_string()),
    };
    let mut slots = Vec::new();
    for (name, break_glass) in [("policy", false), ("break-glass", true)] {
        let Some(plan) = anchors.tpm.plan(break_glass) else { continue };
        let slot = tpm.slot(NvIndex::try_from(plan.index)?)?;
        let state = match slot {
            None => "missing",
            Some(slot) if slot.name == plan.name(true) => "ours",
            Some(slot) if slot.name == plan.name(false) => "empty",
            Some(_) => "replaced",
        };
        let record = slot.and_then(|slot| slot.bytes).map(|bytes| SlotRecord::from_bytes(&bytes));
        slots.push((name, plan.index, state, record));
    }
    let well = is_pinned && !slots.is_empty() && slots.iter().all(|(_, _, state, _)| *state == "ours");
    match format {
        Format::Json => println!(
            "{}",
            json!({
                "well": well,
                "manufacturer": info.manufacturer,
                "model": info.model,
                "firmware_version": format!("{:016x}", info.firmware_version),
                "banks": info.banks,
                "ek_sha256": ek,
                "ak_name": ak,
                "pinned": is_pinned,
                "ek_certificate": certificate.as_ref().ok().map(|(sha256, issuer)| json!({
                    "sha256": sha256,
                    "issuer": issuer,
                    "noted": anchors.tpm.ek_certificate_sha256.as_ref() == Some(sha256),
                })),
                "lockout_auth_set": info.lockout_auth_set,
                "clear_disabled": info.clear_disabled,
                "slots": slots.iter().map(|(name, index, state, record)| json!({
                    "name": name,
                    "index": format!("{index:#010x}"),
                    "state": state,
                    "version": record.map(|record| record.version),
                    "statement": record.map(|record| hex::encode(record.statement)),
                })).collect::<Vec<_>>(),
            })
        ),
        Format::Text => {
            println!(
                "TPM              {} {}, firmware {:016x}",
                info.manufacturer, info.model, info.firmware_version
            );
            println!("PCR banks        {}", info.banks.join(", "));
            println!("endorsement key  {ek}");
            println!("attestation key  {ak}");
            match &certificate {
                Ok((sha256, issuer)) => {
                    println!("its certificate  {sha256}, issued by {}", printable(issuer))
                }
                Err(reason) => println!("its certificate  {reason}"),
            }
            println!("pinned           {}", if is_pinned { "yes" } else { "NO: run `enforcer tpm enroll`" });
            for (name, index, state, record) in &slots {
                let holds = match record {
                    Some(record) if record.version > 0 => {
                        format!(", version {} ({})", record.version, hex::encode(record.statement))
                    }
                    _ => String::new(),
                };
                println!("slot {name:<11} {index:#010x} {state}{holds}");
            }
        }
    }
    Ok(if well { Outcome::Well } else { Outcome::NotWell })
}

fn unenroll(path: &Path, yes: bool) -> Result<Outcome> {
    let anchors = Anchors::read(path)?;
    if !yes {
        bail!("this forgets which versions were admitted, so that older ones can come back; say `--yes`");
    }
    let tpm = Tpm::open(&anchors.tpm.tcti, DEADLINE)?;
    for plan in [false, true].into_iter().filter_map(|break_glass| anchors.tpm.plan(break_glass)) {
        let index = NvIndex::try_from(plan.index)?;
        match tpm.slot(index)? {
            Some(slot) if slot.name == plan.name(slot.written) => tpm.undefine_slot(index)?,
            Some(_) => eprintln!("NV index {index} is not ours and was left alone"),
            None => {}
        }
    }
    output::replace(path, with_pins(&std::fs::read_to_string(path)?, &[]).as_bytes())?;
    println!("the slots are gone, and {} pins no TPM any more", path.display());
    Ok(Outcome::Well)
}

/// What enrolment writes into the anchors.
const PINS: [&str; 4] = ["ek_sha256", "ak_name", "ek_certificate_sha256", "ek_certificate_issuer"];

/// The anchors' text with these pins and no others. Everything else stays as it was written, remarks included.
fn with_pins(text: &str, pins: &[(&str, String)]) -> String {
    let is_pin = |line: &str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        line.contains('=') && PINS.contains(&name)
    };
    let mut lines: Vec<String> = text.lines().filter(|line| !is_pin(line)).map(str::to_owned).collect();
    if !pins.is_empty() {
        let header = lines.iter().position(|line| line.trim() == "[tpm]").unwrap_or_else(|| {
            lines.push("[tpm]".into());
            lines.len() - 1
        });
        // What is in a certificate may be anything: it becomes a TOML string, on one line.
        let line = |(name, value): &(&str, String)| {
            let value: String = value.chars().filter(|char| !char.is_control()).collect();
            format!("{name} = {}", toml::Value::String(value))
        };
        let after_header = header + 1..header + 1;
        lines.splice(after_header, pins.iter().map(line));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::anchors::TpmMode;

    fn pins(ek: &str, ak: &str) -> Vec<(&'static str, String)> {
        vec![("ek_sha256", ek.into()), ("ak_name", ak.into())]
    }

    #[test]
    fn pins_are_written_beside_what_is_there() {
        let text = "# ours\npolicy = \"web\"\n\n[tpm]\n# the first\nmode = \"require\"\n";
        let pinned = with_pins(text, &pins("aa", "bb"));
        assert_eq!(
            pinned,
            "# ours\npolicy = \"web\"\n\n[tpm]\nek_sha256 = \"aa\"\nak_name = \"bb\"\n# the first\nmode = \"require\"\n"
        );
        assert_eq!(with_pins(&pinned, &pins("cc", "dd")), pinned.replace("aa", "cc").replace("bb", "dd"));
        assert_eq!(with_pins(&pinned, &[]), text);
        assert_eq!(with_pins("", &pins("aa", "bb")), "[tpm]\nek_sha256 = \"aa\"\nak_name = \"bb\"\n");
    }

    #[test]
    fn a_certificate_cannot_write_anchors() {
        let issuer = "CN=\"\nmode = \"off\"\r\\ '' ''' \u{1b}[2J";
        let text = with_pins("[tpm]\n", &[("ek_certificate_issuer", issuer.to_owned())]);
        let anchors = Anchors::parse(&text, Path::new("anchors.toml")).unwrap();
        assert_eq!(anchors.tpm.mode, TpmMode::Require, "{text}");
        let noted = anchors.tpm.ek_certificate_issuer.as_deref();
        assert_eq!(noted, Some("CN=\"mode = \"off\"\\ '' ''' [2J"), "{text}");
        assert_eq!(with_pins(&text, &[]), "[tpm]\n");
    }
}
