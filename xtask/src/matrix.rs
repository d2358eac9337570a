//! Runs every VM suite on every kernel, a few guests at a time, and counts.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::libtest::Summary;
use crate::package::Packages;
use crate::provision::kernel::Kernel;
use crate::scenarios::{Kind, Machine, Run, Scenario};
use crate::ui;
use crate::vm::{self, Ending, Guest, Host, Program, Report, Sink, Tier, TpmDevice, TpmInterface};

/// One line of the final table.
pub(crate) struct Row {
    /// Kernel, or `host`.
    pub(crate) place: String,
    /// Suite name.
    pub(crate) suite: String,
    /// What its tests reported.
    pub(crate) summary: Summary,
    /// Why the suite counts as broken even if no test reported a failure.
    pub(crate) broken: Option<String>,
    /// Wall-clock time, boot included.
    pub(crate) time: Duration,
}

impl Row {
    /// Failed tests; a suite that broke without naming one counts as one.
    pub(crate) fn failed(&self) -> u64 {
        self.summary.failed.max(u64::from(self.broken.is_some()))
    }
}

/// One suite on one kernel.
pub(crate) struct Job<'a> {
    /// The kernel.
    pub(crate) kernel: &'a Kernel,
    /// Name of the suite, which is also that of its program without prefix.
    pub(crate) suite: String,
    /// User space it needs.
    pub(crate) tier: Tier,
    /// How often the machine is booted for it.
    pub(crate) boots: Boots,
}

/// How a suite is run.
pub(crate) enum Boots {
    /// As a whole, in one guest.
    One {
        /// Whether it needs a TPM.
        tpm: bool,
    },
    /// A test for each boot of one machine.
    Several(&'static Scenario),
}

/// What all jobs have in common.
pub(crate) struct Settings<'a> {
    /// Put on every guest's `PATH`.
    pub(crate) programs: &'a [Program],
    /// The packages for hosts, if a story needs them.
    pub(crate) packages: Option<&'a Packages>,
    /// Passed to the test harness.
    pub(crate) filter: Option<&'a str>,
    /// Limit per suite.
    pub(crate) timeout: Duration,
    /// Guests at a time.
    pub(crate) parallel: usize,
}

/// Words in the names of heavy suites.
const HEAVY: &[&str] = &["containers", "heavy", "software"];

/// Series on which heavy suites run: what distributions have now.
const HEAVY_ON: &[&str] = &["6.12"];

/// The suite of the daemon as a service, and series on which it runs: the oldest, the newest, and what distributions have.
/// What a series in between does differently the suites `kernel` and `bypass` find, which run on all.
const SERVICE: &str = "systemd";
const SERVICE_ON: &[&str] = &["6.1", "6.12", "7.3"];

/// Whether a suite is part of the matrix on this kernel. Suites with one of [`HEAVY`] in their name take an emulated
/// processor minutes, and what they test depends on the kernel least of all: they run on [`HEAVY_ON`] only.
pub(crate) fn runs_on(suite: &str, kernel: &str) -> bool {
    let series = if suite.split('_').any(|word| HEAVY.contains(&word)) {
        HEAVY_ON
    } else if suite == SERVICE {
        SERVICE_ON
    } else {
        return true;
    };
    let on = |series: &&str| {
        kernel.strip_prefix(*series).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    series.iter().any(on)
}

/// Runs all jobs; rows come back in the order of the jobs.
pub(crate) fn run(host: &Host, jobs: &[Job<'_>], settings: &Settings<'_>) -> Vec<Row> {
    let queue = Mutex::new((0..jobs.len()).collect::<VecDeque<_>>());
    let rows = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..settings.parallel.min(jobs.len()) {
            scope.spawn(|| {
                loop {
                    // A statement of its own: as a loop condition it would hold the lock while the guest runs.
                    let next = lock(&queue).pop_front();
                    let Some(index) = next else { break };
                    let row = run_one(host, &jobs[index], settings);
                    lock(&rows).insert(index, row);
                }
            });
        }
    });
    rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}

/// A panic of another worker leaves queue and rows as usable as before.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn run_one(host: &Host, job: &Job<'_>, settings: &Settings<'_>) -> Row {
    let started = Instant::now();
    let (summary, broken) = match job.boots {
        Boots::One { tpm } => one_boot(host, job, tpm, settings),
        Boots::Several(scenario) => several_boots(host, job, scenario, settings),
    };
    Row { place: job.kernel.name.clone(), suite: job.suite.clone(), summary, broken, time: started.elapsed() }
}

/// Runs the whole suite in one guest.
fn one_boot(host: &Host, job: &Job<'_>, tpm: bool, settings: &Settings<'_>) -> (Summary, Option<String>) {
    // One thread: tests share one kernel, and many change its global state.
    let mut argv = vec![format!("suite-{}", job.suite), "--test-threads=1".to_owned()];
    argv.extend(settings.filter.map(str::to_owned));
    let tpm = tpm.then_some(TpmDevice { interface: TpmInterface::Crb, state: None });
    let guest = Guest { tpm, ..guest(job, argv, settings) };
    boot(host, &guest, format!("[{} {}]", job.kernel.name, job.suite), broken)
}

/// Boots one machine again and again, until a boot does not go as expected.
fn several_boots(
    host: &Host,
    job: &Job<'_>,
    scenario: &Scenario,
    settings: &Settings<'_>,
) -> (Summary, Option<String>) {
    let mut summary = Summary::default();
    let machine = match Machine::new() {
        Ok(machine) => machine,
        Err(error) => return (summary, Some(format!("{error:#}"))),
    };
    let disk = match scenario.machine {
        Kind::Measured => None,
        Kind::Installed => match install(host, &machine, settings) {
            Ok(disk) => Some(disk),
            Err(error) => return (summary, Some(format!("{error:#}"))),
        },
    };
    let count = scenario.boots.len();
    for (number, step) in (1..).zip(scenario.boots) {
        let state = Some(machine.tpm());
        let guest = Guest {
            disk: disk.clone(),
            share: Some(machine.share()),
            tpm: step.tpm.map(|interface| TpmDevice { interface, state }),
            uefi: scenario.machine == Kind::Measured,
            kernel_parameters: step.kernel_parameters.to_owned(),
            ..guest(job, step.run.argv(scenario.suite), settings)
        };
        let prefix = format!("[{} {} {number}/{count}]", job.kernel.name, job.suite);
        ui::out(&format!("{prefix} {} ({})", step.run.title(), step.kernel_parameters));
        let (mut outcome, broken) =
            boot(host, &guest, prefix, |ending, summary| unexpected(&step.run, ending, summary));
        if broken.is_none() && matches!(step.run, Run::Command { .. }) {
            outcome.passed += 1;
        }
        let failed = outcome.failed > 0;
        summary.add(outcome);
        if failed || broken.is_some() {
            let rest = count - number;
            let told = format!("boot {number} of {count} went wrong, {rest} more were not tried");
            return (summary, Some(broken.map_or(told.clone(), |reason| format!("{told}: {reason}"))));
        }
    }
    (summary, None)
}

/// The disk of a machine that packages are installed on.
fn install(host: &Host, machine: &Machine, settings: &Settings<'_>) -> Result<PathBuf> {
    let packages = settings.packages.context("the packages were not made")?;
    machine.install(&host.rootfs()?, packages)
}

/// Boots a guest, shows what it says, and judges how it ended.
fn boot(
    host: &Host,
    guest: &Guest<'_>,
    prefix: String,
    judge: impl Fn(&Ending, &Summary) -> Option<String>,
) -> (Summary, Option<String>) {
    let mut lines = Lines::new(prefix);
    let report = vm::run(host, guest, &mut lines);
    lines.flush();
    if let Ok(Report { boot: Some(boot), .. }) = &report {
        ui::out(&format!("{} was up after {:.1} s", lines.prefix, boot.as_secs_f64()));
    }
    let broken = match &report {
        Err(error) => Some(format!("{error:#}")),
        Ok(report) => judge(&report.ending, &lines.summary),
    };
    if let Some(reason) = &broken {
        ui::error(&format!("{} {reason}", lines.prefix));
    }
    if let Ok(report) = &report
        && (broken.is_some() || lines.summary.failed > 0)
    {
        show(report, &lines.prefix);
    }
    (lines.summary, broken)
}

fn guest<'a>(job: &Job<'a>, argv: Vec<String>, settings: &Settings<'a>) -> Guest<'a> {
    Guest {
        kernel: job.kernel,
        tier: job.tier,
        argv,
        env: BTreeMap::new(),
        programs: settings.programs,
        timeout: settings.timeout,
        memory_mib: None,
        disk: None,
        share: None,
        net: false,
        tpm: None,
        uefi: false,
        interactive: false,
        kernel_parameters: String::new(),
        counting: None,
    }
}

/// Why this end of a suite is not one that its tests account for.
fn broken(ending: &Ending, summary: &Summary) -> Option<String> {
    match ending {
        Ending::TimedOut(what) => Some(what.clone()),
        Ending::Died(how) => Some(format!("the guest died: {how}")),
        Ending::Exited(_) if summary.results == 0 => Some("the suite printed no result".to_owned()),
        Ending::Exited(0) => None,
        Ending::Exited(_) if summary.failed > 0 => None,
        Ending::Exited(status) => Some(format!("the suite ended with status {status} but no failed test")),
    }
}

/// Why this end of one boot of a story is not the expected one. A failed test accounts for itself.
fn unexpected(run: &Run, ending: &Ending, summary: &Summary) -> Option<String> {
    match (run, ending) {
        (Run::Test(_), _) => broken(ending, summary).or_else(|| {
            // A harness that knows no test of this name runs none and is content.
            let ran = summary.passed + summary.failed;
            (ran != 1).then(|| format!("{ran} tests ran instead of one: is there one of this name?"))
        }),
        (Run::Command { status, .. }, Ending::Exited(found)) => {
            (found != status).then(|| format!("the command ended with status {found} instead of {status}"))
        }
        (Run::Command { .. }, Ending::TimedOut(what)) => Some(what.clone()),
        (Run::Command { .. }, Ending::Died(how)) => Some(format!("the guest died: {how}")),
    }
}

fn show(report: &Report, prefix: &str) {
    for (name, text) in report.artifacts() {
        ui::note(&format!("{prefix} --- {name} ---\n{text}"));
    }
    ui::note(&format!("{prefix} --- end of the console ---\n{}", report.console_tail(60)));
    ui::note(&format!("{prefix} logs in {}", report.logs.display()));
}

/// Prints whole lines with a prefix, because two guests speak at the same time, and counts results.
struct Lines {
    prefix: String,
    summary: Summary,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    fn new(prefix: String) -> Self {
        Self { prefix, summary: Summary::default(), stdout: Vec::new(), stderr: Vec::new() }
    }

    fn show(&self, line: &str) {
        ui::out(&format!("{} {}", self.prefix, line.trim_end()));
    }

    /// Ends lines that the guest left unfinished.
    fn flush(&mut self) {
        for rest in [std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr)] {
            if !rest.is_empty() {
                self.show(&String::from_utf8_lossy(&rest));
            }
        }
    }
}

/// Takes the whole lines out of a buffer.
fn whole_lines(buffer: &mut Vec<u8>) -> Vec<String> {
    let end = buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let whole: Vec<u8> = buffer.drain(..end).collect();
    String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
}

impl Sink for Lines {
    fn stdout(&mut self, data: &[u8]) -> Result<()> {
        self.stdout.extend_from_slice(data);
        for line in whole_lines(&mut self.stdout) {
            self.summary.line(&line);
            self.show(&line);
        }
        Ok(())
    }

    fn stderr(&mut self, data: &[u8]) -> Result<()> {
        self.stderr.extend_from_slice(data);
        whole_lines(&mut self.stderr).iter().for_each(|line| self.show(line));
        Ok(())
    }

    fn restarted(&mut self) {
        self.flush();
        self.summary = Summary::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(failed: u64, results: u64) -> Summary {
        let mut summary = Summary::default();
        (summary.failed, summary.results) = (failed, results);
        summary
    }

    #[test]
    fn only_what_tests_account_for_is_not_broken() {
        let cases = [
            (Ending::Exited(0), summary(0, 1), false),
            (Ending::Exited(101), summary(2, 1), false),
            (Ending::Exited(0), summary(0, 0), true),
            (Ending::Exited(134), summary(0, 1), true),
            (Ending::Died(String::new()), summary(0, 1), true),
            (Ending::TimedOut(String::new()), summary(1, 1), true),
        ];
        for (ending, summary, expected) in cases {
            assert_eq!(broken(&ending, &summary).is_some(), expected, "{ending:?} {summary:?}");
        }
    }

    #[test]
    fn a_boot_of_a_story_has_one_expected_end() {
        let with = |passed, failed| {
            let mut summary = summary(failed, 1);
            summary.passed = passed;
            summary
        };
        let test = Run::Test("x");
        let command = Run::Command { argv: &["x"], status: 3 };
        let cases = [
            (&test, Ending::Exited(0), with(1, 0), false),
            (&test, Ending::Exited(0), with(0, 0), true),
            (&test, Ending::Exited(0), with(2, 0), true),
            (&test, Ending::Exited(101), with(0, 1), false),
            (&test, Ending::Died(String::new()), with(1, 0), true),
            (&command, Ending::Exited(3), summary(0, 0), false),
            (&command, Ending::Exited(0), summary(0, 0), true),
            (&command, Ending::TimedOut(String::new()), summary(0, 0), true),
        ];
        for (run, ending, summary, expected) in cases {
            assert_eq!(
                unexpected(run, &ending, &summary).is_some(),
                expected,
                "{run:?} {ending:?} {summary:?}"
            );
        }
    }

    #[test]
    fn heavy_suites_run_on_some_kernels_only() {
        let on = |suite| ["6.1", "6.12", "6.18", "7.3", "70.1"].map(|kernel| runs_on(suite, kernel));
        assert_eq!(on("systemd_heavy"), [false, true, false, false, false]);
        assert_eq!(on("systemd_software"), [false, true, false, false, false]);
        assert_eq!(on("systemd_containers"), [false, true, false, false, false]);
        assert_eq!(on("systemd_containers_cri"), [false, true, false, false, false]);
        assert_eq!(on("systemd"), [true, true, false, true, false]);
        assert_eq!(on("systemd_trust"), [true; 5]);
        assert_eq!(on("heavyweight"), [true; 5]);
    }

    #[test]
    fn lines_arrive_whole_whatever_the_chunks() {
        let mut lines = Lines::new("[x]".into());
        for chunk in ["test res", "ult: ok. 2 passed; 0 failed; 0 ign", "ored\nrest"] {
            lines.stdout(chunk.as_bytes()).unwrap();
        }
        assert_eq!((lines.summary.passed, lines.summary.results), (2, 1));
        assert_eq!(lines.stdout, b"rest");
        lines.restarted();
        assert_eq!(lines.summary, Summary::default());
    }
}
