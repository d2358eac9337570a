//! `cargo xtask test`

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::build::{self, Profile, VM_TESTS, VM_TESTS_WITH_LIBRARIES};
use super::{setup, vm};
use crate::libtest::Summary;
use crate::matrix::{self, Boots, Job, Row, Settings};
use crate::package::{self, Purpose};
use crate::paths::{self, Cache};
use crate::provision::lock::Lock;
use crate::provision::{self, apt};
use crate::vm::{Host, Tier};
use crate::{process, scenarios, ui};

/// Run every test: unit and host tests, then the VM suites on every kernel of the matrix.
///
/// The last line is `N passed, N failed`, summed over everything. Fails when a test failed, when a suite broke
/// before it printed a result, and when nothing ran.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these kernels (6.12, 6.12.107, a full release); all of the matrix otherwise.
    #[arg(long, value_name = "V")]
    kernel: Vec<String>,
    /// Only tests whose name contains F.
    #[arg(long, value_name = "F")]
    filter: Option<String>,
    /// Only suites of this name (kernel, bypass, measured_boot, signed_boots, tpm_device, systemd, systemd_containers,
    /// systemd_heavy, systemd_packages, systemd_software, systemd_trust).
    #[arg(long, value_name = "S")]
    suite: Vec<String>,
    /// Only the tests that need no VM.
    #[arg(long, conflicts_with = "vm_only")]
    host_only: bool,
    /// Only the VM suites.
    #[arg(long)]
    vm_only: bool,
    /// Guests at a time; one per processor, at most two, unless given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Seconds a suite may take on one kernel.
    #[arg(long, value_name = "S", default_value_t = 1800)]
    timeout: u64,
}

impl Args {
    /// Everything, as CI wants it.
    pub(super) fn all() -> Self {
        Self {
            kernel: Vec::new(),
            filter: None,
            suite: Vec::new(),
            host_only: false,
            vm_only: false,
            jobs: None,
            timeout: 1800,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    // A mistyped kernel should not cost the time of all host tests.
    Lock::read()?.select(&args.kernel)?;
    let cache = Cache::open()?;
    let rows = std::thread::scope(|scope| -> Result<Vec<Row>> {
        provision::for_build(&cache)?;
        // Guests' needs are fetched and built while the compiler works.
        let guests = (!args.host_only).then(|| scope.spawn(|| setup::for_guests(&cache)));
        let mut rows = if args.vm_only { Vec::new() } else { vec![on_host(args.filter.as_deref())?] };
        if let Some(guests) = guests {
            guests.join().unwrap_or_else(|_| Err(anyhow!("setting up for guests panicked")))?;
            rows.extend(in_guests(&cache, args)?);
        }
        Ok(rows)
    })?;
    Ok(verdict(&rows))
}

/// All workspace tests that run on the build machine.
fn on_host(filter: Option<&str>) -> Result<Row> {
    let started = Instant::now();
    let mut summary = Summary::default();
    apt::ensure(&[apt::Purpose::Tpm])?;
    // The suites of the VM packages are for guests, their libraries' own tests are not.
    let mut everything = vec!["--workspace", "--exclude", "enforcer-ebpf"];
    let mut libraries = vec!["--lib"];
    for package in VM_TESTS {
        everything.extend(["--exclude", package]);
        libraries.extend(["-p", package]);
    }
    for package in VM_TESTS_WITH_LIBRARIES {
        everything.extend(["--exclude", package]);
    }
    let mut broken = None;
    // The libraries like guests get them: what that compiles is what they are compiled from afterwards.
    for (selection, set_up) in [(everything, None), (libraries, Some(build::statically as SetUp))] {
        let failed = summary.failed;
        let status = cargo_test(&selection, set_up, filter, &mut summary)?;
        if !status.success() && summary.failed == failed {
            broken = Some(format!("cargo test {}: {status}", selection.join(" ")));
        }
    }
    if summary.results == 0 {
        broken = Some("no test program ran to its end".to_owned());
    }
    Ok(Row { place: "host".into(), suite: "workspace".into(), summary, broken, time: started.elapsed() })
}

/// What a call of cargo needs besides its arguments.
type SetUp = fn(&mut Command);

/// Runs the tests of these packages and counts them.
fn cargo_test(
    selection: &[&str],
    set_up: Option<SetUp>,
    filter: Option<&str>,
    summary: &mut Summary,
) -> Result<ExitStatus> {
    let mut cargo = process::cargo(paths::workspace());
    cargo.arg("test").args(selection).arg("--no-fail-fast");
    if let Some(set_up) = set_up {
        set_up(&mut cargo);
    }
    if let Some(filter) = filter {
        cargo.args(["--", filter]);
    }
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting cargo")?;
    for line in BufReader::new(child.stdout.take().context("standard output is piped")?).split(b'\n') {
        let line = line.context("reading the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        summary.line(&line);
        ui::out(&line);
    }
    child.wait().context("waiting for cargo")
}

fn in_guests(cache: &Cache, args: &Args) -> Result<Vec<Row>> {
    let mut suites: Vec<String> =
        build::suites(cache, Profile::Dev)?.into_iter().map(|suite| suite.name).collect();
    suites.retain(|suite| args.suite.is_empty() || args.suite.contains(suite));
    suites.sort();
    if suites.is_empty() {
        bail!("there is no VM suite to run");
    }
    if suites.iter().any(|suite| needs_tpm(suite)) {
        apt::ensure(&[apt::Purpose::Tpm])?;
    }
    if suites.iter().any(|suite| scenarios::of(suite).is_some()) {
        apt::ensure(&[apt::Purpose::Tpm, apt::Purpose::Uefi])?;
    }
    let programs = vm::everything_built(cache, Profile::Dev)?;
    let host = Host::prepare(cache, vm::agent(&programs)?)?;
    let kernels = host.kernels(&args.kernel)?;
    let mut jobs = Vec::new();
    for suite in &suites {
        // Who names a kernel, or a suite, gets it.
        let all = !args.kernel.is_empty() || args.suite.contains(suite);
        let (run, left_out): (Vec<_>, Vec<_>) =
            kernels.iter().partition(|kernel| all || matrix::runs_on(suite, &kernel.name));
        if !left_out.is_empty() {
            let names: Vec<_> = left_out.iter().map(|kernel| kernel.name.as_str()).collect();
            ui::note(&format!("suite {suite} takes long: not on {} unless asked for", names.join(", ")));
        }
        for kernel in run {
            let boots = match scenarios::of(suite) {
                None => Boots::One { tpm: needs_tpm(suite) },
                Some(scenario) if scenario.is_wanted(&kernel.name, &args.suite, args.filter.as_deref()) => {
                    Boots::Several(scenario)
                }
                Some(_) => continue,
            };
            jobs.push(Job { kernel, suite: suite.clone(), tier: tier(suite), boots });
        }
    }
    let is_installed = |job: &Job<'_>| matches!(job.boots, Boots::Several(scenario) if scenario.machine == scenarios::Kind::Installed);
    let packages = match jobs.iter().any(is_installed) {
        true => Some(package::make(cache, &programs, Purpose::Test)?),
        false => None,
    };
    // More guests than processors only make each other slow; two is also what memory of small machines allows.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = Settings {
        programs: &programs,
        packages: packages.as_ref(),
        filter: args.filter.as_deref(),
        timeout: Duration::from_secs(args.timeout),
        parallel: args.jobs.unwrap_or(processors.min(2)).max(1),
    };
    Ok(matrix::run(&host, &jobs, &settings))
}

/// The user space a suite needs, by its name.
fn tier(suite: &str) -> Tier {
    if suite.starts_with("systemd") { Tier::Systemd } else { Tier::Initramfs }
}

/// Whether a suite gets a TPM, by its name. The others do without: its self-test slows down every boot.
fn needs_tpm(suite: &str) -> bool {
    suite.split('_').any(|word| word == "tpm")
}

/// Prints the table and the final line, which must be the last.
fn verdict(rows: &[Row]) -> ExitCode {
    ui::out("");
    ui::out(&format!(
        "{:10} {:12} {:>7} {:>7} {:>8} {:>8}",
        "kernel", "suite", "passed", "failed", "ignored", "time"
    ));
    for row in rows {
        let (time, summary) = (row.time.as_secs_f64(), &row.summary);
        ui::out(&format!(
            "{:10} {:12} {:>7} {:>7} {:>8} {time:>6.1} s",
            row.place,
            row.suite,
            summary.passed,
            row.failed(),
            summary.ignored
        ));
    }
    for row in rows {
        for test in &row.summary.failures {
            ui::out(&format!("FAILED: {} {}: {test}", row.place, row.suite));
        }
        if let Some(reason) = &row.broken {
            ui::out(&format!("BROKEN: {} {}: {reason}", row.place, row.suite));
        }
    }
    let passed: u64 = rows.iter().map(|row| row.summary.passed).sum();
    let failed: u64 = rows.iter().map(Row::failed).sum();
    if passed + failed == 0 {
        ui::error("no test ran");
    }
    ui::out(&format!("{passed} passed, {failed} failed"));
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
