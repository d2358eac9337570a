//! `enforcer status`.

use std::{
    io::stdout,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Result;

use super::{
    Format, Outcome,
    output::{Colour, paint, printable},
};
use crate::{
    heartbeat,
    kernel::pin::Pins,
    session::{DaemonLock, RUNTIME_DIR},
    status::{PolicyStatus, Status, look},
};

/// Shows what is in force beside what should be. Exit status 1 if they differ or enforcement is off.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Look only whether a daemon runs and does its work, for probes that start it again
    #[arg(long, conflicts_with = "format")]
    live: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    if args.live {
        return Ok(live(Path::new(RUNTIME_DIR)));
    }
    let status = look(Path::new(RUNTIME_DIR), &Pins::default());
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Format::Text => print(&status),
    }
    Ok(if status.healthy { Outcome::Well } else { Outcome::NotWell })
}

fn live(runtime: &Path) -> Outcome {
    match heartbeat::age(runtime).filter(|_| DaemonLock::is_held(runtime)) {
        Some(age) if age <= heartbeat::LIMIT => {
            println!("the daemon runs");
            Outcome::Well
        }
        Some(age) => {
            println!("the daemon was silent for {} s", age.as_secs());
            Outcome::NotWell
        }
        None => {
            println!("no daemon runs");
            Outcome::NotWell
        }
    }
}

fn print(status: &Status) {
    let out = stdout();
    let on =
        if status.enforcing { paint(&out, Colour::Green, "on") } else { paint(&out, Colour::Red, "OFF") };
    let daemon =
        if status.daemon { "running" } else { "not running (enforcement does not need it; events do)" };
    println!("enforcement  {on}, {} of {} hooks attached", status.links.attached, status.links.expected);
    println!("daemon       {daemon}");
    if let Some(generation) = status.generation {
        println!("generation   {generation}");
    }
    if let Some(standing) = &status.standing {
        let trust = if standing.is_break_glass() {
            paint(&out, Colour::Red, "BREAK-GLASS")
        } else {
            standing.trust.clone()
        };
        let state =
            standing.state.as_ref().map(|state| format!(", platform state {state}")).unwrap_or_default();
        println!("admitted     {} version {}: {trust}{state}", standing.policy, standing.version);
        if let Some(seconds) = standing.not_after {
            let end = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            println!("             until {}", humantime::format_rfc3339_seconds(end));
        }
        println!("             statement {}", standing.statement);
    }
    if let Some(seal) = &status.seal {
        let since = Duration::from_secs(Duration::from_nanos(seal.since_boot_ns).as_secs());
        println!(
            "seal         {}, {} after boot, by statement {}; version {} now",
            paint(&out, Colour::Green, "on"),
            humantime::format_duration(since),
            seal.statement,
            seal.version
        );
    }
    if status.policies.is_empty() {
        println!("policies     none: nothing is restricted");
    }
    for policy in &status.policies {
        print_policy(policy);
    }
    let counters: Vec<String> =
        status.counters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !counters.is_empty() {
        println!("counters     {}", counters.join(", "));
    }
    let room: Vec<String> =
        status.room.iter().map(|(name, room)| format!("{name} {}/{}", room.used, room.size)).collect();
    if !room.is_empty() {
        println!("room         {}", room.join(", "));
    }
    for problem in &status.problems {
        println!("{} {}", paint(&out, Colour::Red, "problem:"), printable(problem));
    }
}

fn print_policy(policy: &PolicyStatus) {
    let out = stdout();
    let trust = match policy.trust.as_str() {
        "unsigned" => paint(&out, Colour::Red, "UNSIGNED"),
        "deny-all" => paint(&out, Colour::Red, "NOTHING IS ALLOWED"),
        other => other.to_owned(),
    };
    let force = if policy.in_force { "" } else { ", NOT IN FORCE" };
    println!(
        "policy       {}: {trust}, {}{force}, slot {} incarnation {}",
        paint(&out, Colour::Bold, &policy.name),
        modes(policy),
        policy.slot,
        policy.incarnation
    );
    println!("             from {}", printable(&policy.origin));
    println!(
        "             {} cgroups bound, {} processes labelled, {} not yet",
        policy.cgroups.len(),
        policy.tasks,
        policy.unlabelled
    );
    for cgroup in policy.cgroups.iter().take(5) {
        println!("               {}", printable(cgroup));
    }
    if policy.cgroups.len() > 5 {
        println!("               … and {} more", policy.cgroups.len() - 5);
    }
}

/// `enforce`, or which families are not.
fn modes(policy: &PolicyStatus) -> String {
    let mut values: Vec<&str> = policy.modes.values().copied().collect();
    values.dedup();
    match values.as_slice() {
        [one] => (*one).to_owned(),
        _ => {
            let each: Vec<String> =
                policy.modes.iter().map(|(family, mode)| format!("{family} {mode}")).collect();
            each.join(", ")
        }
    }
}
