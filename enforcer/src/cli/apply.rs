//! `enforcer apply`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use super::{Format, InstallArgs, Outcome, output};
use crate::{
    bundle::{
        sources,
        verify::{InsecureUnsigned, VerifiedBundle},
    },
    kernel::pin::Pins,
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
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    let consent = InsecureUnsigned::from_flag(args.install.insecure_unsigned);
    let policies = sources::verify(sources::read(&args.policies)?, consent)?;
    for warnings in policies.iter().filter_map(|bundle| bundle.compiled().warnings.as_deref()) {
        eprintln!("{}", warnings.trim_end());
    }
    let runtime = Path::new(RUNTIME_DIR);
    let mut session = Session::open(Lock::acquire(runtime)?, runtime, &Pins::default())?;
    let current = session.observe()?.unwrap_or_default();
    if !args.prune {
        refuse_removal(current.policies.iter().map(|policy| policy.name.as_str()), &policies)?;
    }
    // Launchers are the machine's, not the policies': without a new list the old one stays.
    let launchers = if args.install.launchers.is_empty() && !current.launchers.is_empty() {
        current.launchers
    } else {
        launchers(&args.install.launchers)
    };
    let put = session.put(&policies, &launchers)?;
    match args.format {
        Format::Json => println!("{}", json(&policies, &put)),
        Format::Text => print(&policies, &put),
    }
    Ok(Outcome::Well)
}

fn refuse_removal<'a>(current: impl Iterator<Item = &'a str>, wanted: &[VerifiedBundle]) -> Result<()> {
    let gone: Vec<&str> = current.filter(|name| wanted.iter().all(|bundle| bundle.name() != *name)).collect();
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

fn print(policies: &[VerifiedBundle], put: &Put) {
    let installed = &put.installed;
    println!("generation {} is in force with {} policies", installed.generation, policies.len());
    for (what, names) in [("added", &installed.added), ("changed", &installed.changed), ("removed", &installed.removed)] {
        if !names.is_empty() {
            println!("  {what}: {}", names.join(", "));
        }
    }
    if put.rebound.bound + put.rebound.unbound != 0 {
        println!("  cgroups: {} bound, {} unbound", put.rebound.bound, put.rebound.unbound);
    }
    let error = std::io::stderr();
    for bundle in policies {
        let unsigned = output::paint(&error, output::Colour::Red, "UNSIGNED");
        eprintln!("warning: {} is {unsigned}: whoever can write {} decides what it allows", bundle.name(), bundle.origin());
    }
    if !installed.removed.is_empty() {
        eprintln!("warning: tasks that were under a removed policy are unrestricted now");
    }
    if let Some(reason) = &installed.untidy {
        eprintln!("warning: left-overs of the old generation remain ({reason}); the next installation removes them");
    }
}

fn json(policies: &[VerifiedBundle], put: &Put) -> serde_json::Value {
    json!({
        "generation": put.installed.generation,
        "policies": policies.iter().map(|bundle| json!({
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
