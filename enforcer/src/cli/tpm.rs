//! `enforcer tpm`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::{
    Format, Outcome,
    output::{self, Colour, paint},
};
use crate::{
    admission::platform::first_write,
    bundle::{
        anchors::{ANCHORS, Anchors},
        approval::{SlotPlan, SlotRecord},
    },
    tpm::{DEADLINE, NvIndex, Tpm},
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
        Command::Enroll { anchors, replace } => enroll(&anchors.anchors, *replace),
        Command::Status { anchors, format } => status(&anchors.anchors, *format),
        Command::Unenroll { anchors, yes } => unenroll(&anchors.anchors, *yes),
    }
}

fn enroll(path: &Path, replace: bool) -> Result<Outcome> {
    let anchors = Anchors::read(path)?;
    let (Some(key), Some(genesis)) = (&anchors.tpm.slot_key, &anchors.tpm.genesis) else {
        bail!("the anchors have no slot key; make them with `enforcer anchors --slot-key`");
    };
    let tpm = Tpm::open(&anchors.tpm.tcti, DEADLINE)?;
    let identity = tpm.identity()?;
    tpm.prove_identity()?;
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
    let text = with_pins(&text, Some((&ek, &ak)));
    Anchors::parse(&text, path).context("the anchors would not be readable with the pins in them")?;
    output::replace(path, text.as_bytes())?;
    println!("{} pins this TPM:\n  endorsement key {ek}\n  attestation key {ak}", path.display());
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
    output::replace(path, with_pins(&std::fs::read_to_string(path)?, None).as_bytes())?;
    println!("the slots are gone, and {} pins no TPM any more", path.display());
    Ok(Outcome::Well)
}

/// The anchors' text with these pins and no others. Everything else stays as it was written, remarks included.
fn with_pins(text: &str, pins: Option<(&str, &str)>) -> String {
    let is_pin = |line: &str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        line.contains('=') && (name == "ek_sha256" || name == "ak_name")
    };
    let mut lines: Vec<String> = text.lines().filter(|line| !is_pin(line)).map(str::to_owned).collect();
    if let Some((ek, ak)) = pins {
        let header = lines.iter().position(|line| line.trim() == "[tpm]").unwrap_or_else(|| {
            lines.push("[tpm]".into());
            lines.len() - 1
        });
        lines.insert(header + 1, format!("ek_sha256 = \"{ek}\""));
        lines.insert(header + 2, format!("ak_name = \"{ak}\""));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_written_beside_what_is_there() {
        let text = "# ours\npolicy = \"web\"\n\n[tpm]\n# the first\nmode = \"require\"\n";
        let pinned = with_pins(text, Some(("aa", "bb")));
        assert_eq!(
            pinned,
            "# ours\npolicy = \"web\"\n\n[tpm]\nek_sha256 = \"aa\"\nak_name = \"bb\"\n# the first\nmode = \"require\"\n"
        );
        assert_eq!(with_pins(&pinned, Some(("cc", "dd"))), pinned.replace("aa", "cc").replace("bb", "dd"));
        assert_eq!(with_pins(&pinned, None), text);
        assert_eq!(with_pins("", Some(("aa", "bb"))), "[tpm]\nek_sha256 = \"aa\"\nak_name = \"bb\"\n");
    }
}
