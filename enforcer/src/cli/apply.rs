//! `enforcer apply`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use super::{Format, InstallArgs, Outcome, output};
use crate::{
    bundle::{
        statement::Seal,
        verify::{Candidate, Trust},
    },
    custody,
    events::{
        admission::Consequence,
        record::Record,
        sink::{LogFile, Sink as _},
    },
    intake::Taken,
    kernel::{pin::Pins, seal, state::Snapshot},
    session::{Lock, Put, RUNTIME_DIR, Session, launchers},
};

/// Puts policies in force, all at once or not at all. What is named becomes the whole set: a policy that is in force and
/// not named would be removed, which takes `--prune`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Policy files, and directories of *.toml
    #[arg(required = true, value_name = "FILE|DIR")]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    install: InstallArgs,
    /// Remove policies that are in force and not named
    #[arg(long)]
    prune: bool,
    /// The event log, which is told what was admitted or refused
    #[arg(long, value_name = "FILE", default_value = "/var/log/enforcer/events.jsonl")]
    event_log: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    let runtime = Path::new(RUNTIME_DIR);
    if seal::is_sealed(&Pins::default()) {
        bail!(
            "this machine is sealed: only the daemon puts policies in force. Put the bundle where it takes them from and \
             have it read them (`systemctl reload enforcer`, or SIGHUP)"
        );
    }
    let intake = args.install.intake(args.policies.clone());
    let report = |record| append(&args.event_log, &record);
    let open = || {
        let session = Session::open(Lock::acquire(runtime)?, runtime, &Pins::default())?;
        let current = session.observe()?.unwrap_or_default();
        // Launchers are the machine's, not the policies': without a new list the old one stays.
        let launchers = if args.install.launchers.is_empty() && !current.launchers.is_empty() {
            current.launchers.clone()
        } else {
            launchers(&args.install.launchers)
        };
        Ok::<_, anyhow::Error>((session, current, launchers))
    };
    let mut opened = None;
    let taken = intake.take(|candidates| {
        let ready = open().map_err(|error| format!("{error:#}"))?;
        if !args.prune {
            refuse_removal(&ready.1, candidates).map_err(|error| error.to_string())?;
        }
        ready.0.rehearse(candidates, &ready.2).map_err(|error| error.to_string())?;
        tracing::debug!("the policies fit");
        opened = Some(ready);
        Ok(())
    });
    let taken = match taken {
        Ok(taken) => taken,
        Err(error) => {
            custody::refused(&report, "apply", &error, Consequence::Unchanged);
            return Err(error.into());
        }
    };
    for warnings in taken.policies.iter().filter_map(|bundle| bundle.compiled().warnings.as_deref()) {
        eprintln!("{}", warnings.trim_end());
    }
    if taken.report.as_ref().is_some_and(|report| report.seal == Some(Seal::On)) {
        bail!(
            "this bundle seals the machine, which only the daemon can do. Put it where the daemon takes policies from and have \
             it read them (`systemctl reload enforcer`, or SIGHUP)"
        );
    }
    let (mut session, current, launchers) = opened.map_or_else(open, Ok)?;
    if !args.prune {
        refuse_removal(&current, &taken.policies)?;
    }
    let put = custody::put(&mut session, &intake, &taken, &launchers, "apply", &report)?;
    match args.format {
        Format::Json => println!("{}", json(&taken, &put)),
        Format::Text => print(&taken, &put),
    }
    Ok(Outcome::Well)
}

/// Adds a line to the event log. A log that cannot be written stops nothing.
fn append(path: &Path, record: &Record) {
    let appended = LogFile::open(path).and_then(|mut log| log.put(record).and_then(|()| log.flush()));
    if let Err(error) = appended {
        eprintln!("warning: cannot write to the event log {}: {error}", path.display());
    }
}

fn refuse_removal<P: AsRef<Candidate>>(current: &Snapshot, wanted: &[P]) -> Result<()> {
    let stays = |name: &str| wanted.iter().any(|policy| policy.as_ref().name() == name);
    let names = current.policies.iter().map(|policy| policy.name.as_str());
    let gone: Vec<&str> = names.filter(|name| !stays(name)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    bail!(
        "this would remove {}, which {} in force and not named; nothing was changed. Name {} too, or remove with \
         `--prune`",
        gone.join(", "),
        if gone.len() == 1 { "is" } else { "are" },
        if gone.len() == 1 { "it" } else { "them" },
    )
}

fn print(taken: &Taken, put: &Put) {
    let (policies, installed) = (&taken.policies, &put.installed);
    println!("generation {} is in force with {} policies", installed.generation, policies.len());
    for (what, names) in
        [("added", &installed.added), ("changed", &installed.changed), ("removed", &installed.removed)]
    {
        if !names.is_empty() {
            println!("  {what}: {}", names.join(", "));
        }
    }
    if put.rebound.bound + put.rebound.unbound != 0 {
        println!("  cgroups: {} bound, {} unbound", put.rebound.bound, put.rebound.unbound);
    }
    let error = std::io::stderr();
    if let Some(report) = &taken.report {
        println!("  {}", report.trust);
        if let Trust::BreakGlass(_) = report.trust {
            let until = report.not_after.map(|time| humantime::format_rfc3339_seconds(time).to_string());
            let loud = output::paint(&error, output::Colour::Red, "BREAK-GLASS");
            eprintln!("warning: {loud}: in force until {}", until.unwrap_or_default());
        }
    }
    for bundle in policies.iter().filter(|bundle| *bundle.trust() == Trust::Unsigned) {
        let unsigned = output::paint(&error, output::Colour::Red, "UNSIGNED");
        eprintln!(
            "warning: {} is {unsigned}: whoever can write {} decides what it allows",
            bundle.name(),
            bundle.origin()
        );
    }
    if !installed.removed.is_empty() {
        eprintln!("warning: tasks that were under a removed policy are unrestricted now");
    }
    if let Some(reason) = &installed.untidy {
        eprintln!(
            "warning: left-overs of the old generation remain ({reason}); the next installation removes them"
        );
    }
}

fn json(taken: &Taken, put: &Put) -> serde_json::Value {
    json!({
        "generation": put.installed.generation,
        "policies": taken.policies.iter().map(|bundle| json!({
            "name": bundle.name(),
            "origin": bundle.origin(),
            "digest": bundle.digest(),
            "trust": bundle.trust().to_string(),
        })).collect::<Vec<_>>(),
        "added": put.installed.added,
        "changed": put.installed.changed,
        "removed": put.installed.removed,
        "cgroups_bound": put.rebound.bound,
        "cgroups_unbound": put.rebound.unbound,
        "untidy": put.installed.untidy,
    })
}
