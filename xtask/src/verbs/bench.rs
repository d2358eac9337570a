//! `cargo xtask bench`

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{build, vm as vm_verb};
use crate::bench::{
    admission::{self, Admission},
    compare, document,
    results::Results,
    table,
};
use crate::paths::Cache;
use crate::provision::apt;
use crate::provision::kernel::Kernel;
use crate::provision::tool::{self, Unpacked};
use crate::ui;
use crate::vm::{self, Ending, Guest, Host, Program, Report, Sink, Tier, TpmDevice, TpmInterface};

/// Count the guest instructions that enforcement costs, beside no enforcement and beside others'.
///
/// Boots each kernel under QEMU's instruction counter, where one tick of the clock is one instruction, and measures
/// operations without protection, with an empty BPF program on each of our hooks, with AppArmor and Landlock with the
/// same rules, and with the enforcer: for tasks under a policy of 20, 1,000 and 100,000 rules, and for tasks under none.
/// A row in which an allowed operation fails, or a refused one succeeds, fails the run. At last it is timed how long a
/// signed bundle takes to be admitted, on a machine with a TPM. docs/performance.md says what the numbers mean.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel to measure: 6.12, 6.12.107 or a full release; all by default.
    #[arg(long, value_name = "V")]
    kernel: Vec<String>,
    /// Only operations whose name contains this; `admission` is the admission of bundles.
    #[arg(long, value_name = "OP", default_value = "")]
    filter: String,
    /// Few batches, and neither the large policies nor AppArmor and Landlock.
    #[arg(long)]
    quick: bool,
    /// Write the results of all kernels to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if our part of an operation costs over 5 % more than in tests/bench/results, or results are missing.
    #[arg(long)]
    check: bool,
    /// Keep the results in tests/bench/results, and those of 6.12 in docs/performance.md.
    #[arg(long, conflicts_with_all = ["quick", "filter"])]
    save: bool,
}

/// A boot: what it is measured under, and what that takes on the kernel's command line.
struct Boot {
    rows: &'static [&'static str],
    parameters: &'static str,
}

/// Without BPF, then with it. The second boot's rows follow one another: each puts up its own protection and takes it
/// down again.
const WHOLE: [Boot; 2] = [
    Boot { rows: &["base"], parameters: "lsm=landlock,lockdown,yama,integrity,apparmor" },
    Boot {
        rows: &[
            "bpf",
            "empty",
            "apparmor-20",
            "apparmor-1000",
            "landlock-20",
            "landlock-1000",
            "host",
            "enforcer-20",
            "enforcer-1000",
            "enforcer-100000",
        ],
        parameters: "",
    },
];

const QUICK: [Boot; 2] = [
    Boot { rows: &["base"], parameters: "lsm=landlock,lockdown,yama,integrity,apparmor" },
    Boot { rows: &["bpf", "empty", "host", "enforcer-20"], parameters: "" },
];

/// What would differ from boot to boot, or cost time on some boots only.
const REPEATABLE: &str =
    "nokaslr norandmaps randomize_kstack_offset=off mitigations=off audit=0 slub_debug=-";

/// Seconds for one boot's rows. Two workers on the machine, and the largest policy takes a minute to compile.
const LIMIT_S: u64 = 3600;

/// What `--filter` calls the admission of bundles.
const ADMISSION: &str = "admission";

/// How many bundles are admitted.
const ADMISSIONS: &str = "7";

/// Room for the largest policy.
const MEMORY_MIB: u32 = 2048;

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let mut programs = build::programs(&cache, build::Profile::Dev)?;
    programs.extend(build::bench_programs(&cache)?);
    let host = Host::prepare(&cache, vm_verb::agent(&programs)?)?;
    let qemu = tool::QEMU.ensure(&cache, host.lock())?;
    let parser = tool::APPARMOR.ensure(&cache, host.lock())?;
    programs.push(Program { name: "apparmor_parser".to_owned(), file: parser.program });
    let bench = Bench { host: &host, qemu: &qemu, programs: &programs, args };
    let mut all = BTreeMap::new();
    let mut failed = false;
    let kernels = host.kernels(&args.kernel)?;
    for kernel in &kernels {
        if args.filter == ADMISSION {
            continue;
        }
        let results = bench.measure(kernel)?;
        failed |= !show(kernel, &results, args)?;
        all.insert(kernel.name.clone(), results);
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&all).context("formatting the results")? + "\n";
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    if let Some(kernel) = kernels.first().filter(|_| !args.quick && ADMISSION.contains(&args.filter)) {
        let admission = bench.admission(kernel)?;
        ui::out(&format!("\n{}: {admission}", kernel.name));
        failed |= !admission.is_within_limit();
    }
    Ok(if failed && args.check { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the results and what has changed; whether nothing has that `--check` fails on.
fn show(kernel: &Kernel, results: &Results, args: &Args) -> Result<bool> {
    ui::out(&format!("\n{} – guest instructions\n", results.release));
    ui::out(&table::operations(results));
    ui::out(&table::hooks(results));
    let file = Results::file(&kernel.name);
    let kept = Results::read(&file)?;
    let findings = compare::compare(kept.as_ref(), results, !args.quick && args.filter.is_empty());
    for finding in &findings {
        ui::warn(&format!("{}: {finding}", kernel.name));
    }
    if args.save {
        results.write(&file)?;
        if kernel.name == document::KERNEL {
            document::update(results)?;
        }
        ui::note(&format!("kept in {}", file.display()));
    }
    Ok(findings.is_empty())
}

struct Bench<'a> {
    host: &'a Host,
    qemu: &'a Unpacked,
    programs: &'a [Program],
    args: &'a Args,
}

impl Bench<'_> {
    fn measure(&self, kernel: &Kernel) -> Result<Results> {
        let boots = if self.args.quick { QUICK } else { WHOLE };
        let mut results: Option<Results> = None;
        for boot in boots {
            let step = ui::step(format!("measuring {}: {}", kernel.name, boot.rows.join(", ")));
            let found = self.boot(kernel, &boot)?;
            step.done();
            match &mut results {
                None => results = Some(found),
                Some(results) => results.join(found)?,
            }
        }
        results.context("a benchmark has boots")
    }

    fn boot(&self, kernel: &Kernel, boot: &Boot) -> Result<Results> {
        let mut argv = vec!["bench-driver".to_owned()];
        if self.args.quick {
            argv.push("--quick".to_owned());
        }
        argv.extend(["--only".to_owned(), self.args.filter.clone()]);
        argv.extend(boot.rows.iter().map(|row| (*row).to_owned()));
        let guest = Guest {
            kernel,
            tier: Tier::Initramfs,
            argv,
            env: BTreeMap::new(),
            programs: self.programs,
            timeout: Duration::from_secs(LIMIT_S),
            memory_mib: Some(MEMORY_MIB),
            disk: None,
            share: None,
            net: false,
            tpm: None,
            uefi: false,
            interactive: false,
            kernel_parameters: format!("{REPEATABLE} {}", boot.parameters),
            counting: Some(self.qemu),
        };
        Results::parse(&self.output(&guest)?)
    }

    /// With firmware and a TPM, and by the clock.
    fn admission(&self, kernel: &Kernel) -> Result<Admission> {
        apt::ensure(&[apt::Purpose::Tpm, apt::Purpose::Uefi])?;
        let step = ui::step(format!("measuring {}: admission of signed bundles", kernel.name));
        let guest = Guest {
            kernel,
            tier: Tier::Initramfs,
            argv: vec![admission::PROGRAM.to_owned(), ADMISSIONS.to_owned()],
            env: BTreeMap::new(),
            programs: self.programs,
            timeout: Duration::from_secs(LIMIT_S),
            memory_mib: None,
            disk: None,
            share: None,
            net: false,
            tpm: Some(TpmDevice { interface: TpmInterface::Crb, state: None }),
            uefi: true,
            interactive: false,
            kernel_parameters: String::new(),
            counting: None,
        };
        let found = Admission::parse(&self.output(&guest)?)?;
        step.done();
        Ok(found)
    }

    /// What a guest printed, if all went well.
    fn output(&self, guest: &Guest<'_>) -> Result<String> {
        let mut output = Output::default();
        let report = vm::run(self.host, guest, &mut output)?;
        match &report.ending {
            Ending::Exited(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            ending => bail!("{}: {}", guest.kernel.name, failure(ending, &report)),
        }
    }
}

fn failure(ending: &Ending, report: &Report) -> String {
    let how = match ending {
        Ending::Exited(status) => format!("the benchmark ended with status {status}"),
        Ending::TimedOut(what) => what.clone(),
        Ending::Died(how) => format!("the guest died: {how}"),
    };
    let artifacts: String =
        report.artifacts().iter().map(|(name, text)| format!("--- {name}\n{text}\n")).collect();
    format!("{how}\n{artifacts}--- end of the console\n{}", report.console_tail(30))
}

/// Keeps what the driver prints, and shows what it says meanwhile.
#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
}

impl Sink for Output {
    fn stdout(&mut self, data: &[u8]) -> Result<()> {
        self.stdout.extend_from_slice(data);
        Ok(())
    }

    fn stderr(&mut self, data: &[u8]) -> Result<()> {
        std::io::stderr().lock().write_all(data).context("writing to standard error")
    }

    fn restarted(&mut self) {
        self.stdout.clear();
    }
}
