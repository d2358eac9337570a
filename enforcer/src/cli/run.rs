//! `enforcer run`.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;

use super::{InstallArgs, Outcome};
use crate::{
    daemon::{self, Config},
    kernel::{load::SetUp, maps::Sizes, pin::Pins},
    session::{RUNTIME_DIR, launchers},
};

/// Where policies lie unless it is said otherwise.
pub(super) const POLICY_DIR: &str = "/etc/enforcer/policies.d";

/// Turns enforcement on and stays in the foreground. SIGHUP reads the policies again; if they have mistakes, those in
/// force stay. SIGTERM ends the daemon and leaves enforcement on.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Policy files. They and those in the policy directory together are what shall be in force
    #[arg(value_name = "POLICY")]
    policies: Vec<PathBuf>,
    /// Directory of policies, *.toml [default: /etc/enforcer/policies.d, if it exists and no file is given]
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// Take the policies again when the policy directory's `..data` link is replaced, as kubelet does with ConfigMaps
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    install: InstallArgs,
    /// Seconds between two checks that the platform still is what the policies were admitted for
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    recheck: u64,
    /// File that gets events as JSON lines
    #[arg(long, value_name = "FILE", default_value = "/var/log/enforcer/events.jsonl")]
    event_log: PathBuf,
    /// Do not log events to a file
    #[arg(long, conflicts_with = "event_log")]
    no_event_log: bool,
    /// Do not print events. They are printed as JSON lines, unless systemd runs the daemon
    #[arg(long, short)]
    quiet: bool,
    /// Room for exact names
    #[arg(long, value_name = "N", default_value_t = Sizes::default().exact)]
    max_exact: u32,
    /// Room for contents of pinned programs
    #[arg(long, value_name = "N", default_value_t = Sizes::default().pins)]
    max_pins: u32,
    /// Room for automata, in chunks of 32 cells
    #[arg(long, value_name = "N", default_value_t = Sizes::default().arena)]
    max_arena: u32,
    /// Room for network prefixes
    #[arg(long, value_name = "N", default_value_t = Sizes::default().prefixes)]
    max_prefixes: u32,
    /// Room for port ranges
    #[arg(long, value_name = "N", default_value_t = Sizes::default().ports)]
    max_ports: u32,
    /// Room for bound cgroups
    #[arg(long, value_name = "N", default_value_t = Sizes::default().bindings)]
    max_bindings: u32,
    /// Size of the ring that events pass through, a power of two
    #[arg(long, value_name = "BYTES", default_value_t = Sizes::default().events_bytes)]
    event_ring: u32,
    /// Decide about every file and address anew, and remember no allows: to measure, and to narrow down what went wrong.
    /// Counts when the programs are loaded; those that an earlier daemon left attached stay as they are
    #[arg(long)]
    no_cache: bool,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    daemon::run(&Config {
        intake: args.install.intake(policies(args)),
        watch: args.watch,
        recheck: Duration::from_secs(args.recheck),
        launchers: launchers(&args.install.launchers),
        set_up: SetUp {
            sizes: Sizes {
                exact: args.max_exact,
                pins: args.max_pins,
                arena: args.max_arena,
                prefixes: args.max_prefixes,
                ports: args.max_ports,
                bindings: args.max_bindings,
                events_bytes: args.event_ring,
            },
            remembers: !args.no_cache,
        },
        event_log: (!args.no_event_log).then(|| args.event_log.clone()),
        print_events: !args.quiet && std::env::var_os("NOTIFY_SOCKET").is_none(),
        runtime: RUNTIME_DIR.into(),
        pins: Pins::default(),
    })?;
    Ok(Outcome::Well)
}

fn policies(args: &Args) -> Vec<PathBuf> {
    let usual = PathBuf::from(POLICY_DIR);
    let directory = match &args.policy_dir {
        Some(directory) => Some(directory.clone()),
        None => (args.policies.is_empty() && usual.is_dir()).then_some(usual),
    };
    directory.into_iter().chain(args.policies.iter().cloned()).collect()
}
