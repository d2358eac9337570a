//! `cargo xtask bench`

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{build, vm as vm_verb};
use crate::bench::{
    admission::{self, Admission},
    compare,
    cpu::Cpu,
    document,
    parts::{self, Part},
    results::Results,
    scale::{self, Scale},
    table,
    work::Work,
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
/// A row in which an allowed operation fails, or a refused one succeeds, fails the run. There are four more parts, which
/// `--filter` runs alone, and of which `scale` and `work` run only so: what a decision takes on this machine's own processor (`cpu`), large policies and many workloads (`scale`),
/// real programs with and without enforcement (`work`), and how long a signed bundle takes to be admitted, on a machine
/// with a TPM (`admission`). docs/performance.md says what the numbers mean.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel to measure: 6.12, 6.12.107 or a full release; all by default.
    #[arg(long, value_name = "V")]
    kernel: Vec<String>,
    /// Only operations whose name contains this, or only that part: cpu, scale, work or admission.
    #[arg(long, value_name = "OP", default_value = "")]
    filter: String,
    /// Few batches, and neither the large policies nor AppArmor and Landlock.
    #[arg(long)]
    quick: bool,
    /// Write the results of all kernels to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if our part of an operation costs over 5 % more than in tests/bench/results, or results are missing, or a part
    /// exceeds its limits.
    #[arg(long)]
    check: bool,
    /// Keep the results in tests/bench/results, and those of 6.12 and of the parts in docs/performance.md.
    #[arg(long, conflicts_with = "quick")]
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

/// How many bundles are admitted.
const ADMISSIONS: &str = "7";

/// Room for the largest policy.
const MEMORY_MIB: u32 = 2048;

/// Room for 50,000 files in memory, and for servers.
const WORK_MEMORY_MIB: u32 = 3072;

/// What the program for this machine ends with where it may load nothing.
const NOT_PERMITTED: i32 = 77;

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let part = Part::named(&args.filter);
    ensure!(
        !args.save || args.filter.is_empty() || part.is_some(),
        "--save keeps everything, or one part; not some operations"
    );
    let cache = Cache::open()?;
    if part == Some(Part::Cpu) {
        // No guest is needed for that.
        cpu(&cache, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    // What is measured is what is shipped.
    let mut programs = build::programs(&cache, build::Profile::Release)?;
    programs.extend(build::bench_programs(&cache)?);
    let host = Host::prepare(&cache, vm_verb::agent(&programs)?)?;
    let qemu = tool::QEMU.ensure(&cache, host.lock())?;
    let parser = tool::APPARMOR.ensure(&cache, host.lock())?;
    programs.push(Program { name: "apparmor_parser".to_owned(), file: parser.program });
    let bench = Bench { cache: &cache, host: &host, qemu: &qemu, programs: &programs, args };
    let mut all = BTreeMap::new();
    let mut failed = false;
    let kernels = host.kernels(&args.kernel)?;
    for kernel in kernels.iter().filter(|_| part.is_none()) {
        let results = bench.measure(kernel)?;
        failed |= !show(kernel, &results, args)?;
        all.insert(kernel.name.clone(), results);
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&all).context("formatting the results")? + "\n";
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    let usual = args.filter.is_empty() && !args.quick;
    let wanted = |wanted: &Part| part.map_or(usual && wanted.is_usual(), |part| part == *wanted);
    for part in Part::ALL.iter().filter(|part| wanted(part)) {
        let kernel = kernels.first().context("there is a kernel")?;
        failed |= !bench.part(*part, kernel)?;
    }
    Ok(if failed && args.check { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a decision takes on this machine, if it lets us find out.
fn cpu(cache: &Cache, args: &Args) -> Result<()> {
    let Some(found) = on_this_machine(cache, Part::Cpu)? else { return Ok(()) };
    let found = Cpu::parse(&found)?;
    ui::out(&format!("\nthis machine, nanoseconds\n\n{}", found.table()));
    if args.save {
        parts::keep(Part::Cpu, &found, &found.table())?;
    }
    Ok(())
}

/// What the program for this machine printed. `None`, and said why, where it may load nothing.
fn on_this_machine(cache: &Cache, part: Part) -> Result<Option<String>> {
    let (program, object) = build::host_bench(cache)?;
    let step = ui::step(format!("measuring on this machine: {}", part.name()));
    let output =
        Command::new(program).arg(part.name()).arg(object).output().context("starting the benchmark")?;
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    if output.status.code() == Some(NOT_PERMITTED) {
        ui::warn(&format!("{} is not measured, this machine does not permit it: {said}", part.name()));
        return Ok(None);
    }
    ensure!(output.status.success(), "{}: {}\n{said}", part.name(), output.status);
    step.done();
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
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
    cache: &'a Cache,
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
        let parameters = format!("{REPEATABLE} {}", boot.parameters);
        Results::parse(&self.output(&self.counting(kernel, Tier::Initramfs, argv, parameters))?)
    }

    /// A guest whose clock counts instructions.
    fn counting<'b>(
        &'b self,
        kernel: &'b Kernel,
        tier: Tier,
        argv: Vec<String>,
        parameters: String,
    ) -> Guest<'b> {
        Guest {
            kernel,
            tier,
            argv,
            env: BTreeMap::new(),
            programs: self.programs,
            timeout: Duration::from_secs(LIMIT_S),
            memory_mib: Some(if tier == Tier::Systemd { WORK_MEMORY_MIB } else { MEMORY_MIB }),
            disk: None,
            share: None,
            net: false,
            tpm: None,
            uefi: false,
            interactive: false,
            kernel_parameters: parameters,
            counting: Some(self.qemu),
        }
    }

    /// Measures a part and shows it; whether it keeps its limits.
    fn part(&self, part: Part, kernel: &Kernel) -> Result<bool> {
        match part {
            Part::Cpu => cpu(self.cache, self.args).map(|()| true),
            Part::Scale => self.scale(kernel),
            Part::Work => self.work(kernel),
            Part::Admission => {
                let admission = self.admission(kernel)?;
                ui::out(&format!("\n{}: {admission}", kernel.name));
                Ok(admission.is_within_limit())
            }
        }
    }

    fn scale(&self, kernel: &Kernel) -> Result<bool> {
        let Some(machine) = on_this_machine(self.cache, Part::Scale)? else { return Ok(true) };
        let machine = scale::parse(&machine)?;
        let step = ui::step(format!("measuring {}: many workloads", kernel.name));
        let guest =
            self.counting(kernel, Tier::Initramfs, vec!["bench-scale".to_owned()], REPEATABLE.to_owned());
        let found = Scale { machine, guest: Some(scale::parse(&self.output(&guest)?)?) };
        step.done();
        ui::out(&format!("\n{}", found.tables()));
        let findings = found.findings();
        findings.iter().for_each(|finding| ui::warn(finding));
        if self.args.save {
            parts::keep(Part::Scale, &found, &found.tables())?;
        }
        Ok(findings.is_empty())
    }

    fn work(&self, kernel: &Kernel) -> Result<bool> {
        let step = ui::step(format!("measuring {}: real programs", kernel.name));
        let guest =
            self.counting(kernel, Tier::Systemd, vec!["bench-work".to_owned()], REPEATABLE.to_owned());
        let found = Work::parse(&self.output(&guest)?)?;
        step.done();
        ui::out(&format!("\n{}: millions of instructions\n\n{}", kernel.name, found.table()));
        let kept: Option<Work> = parts::kept(Part::Work)?;
        let regressions = kept.map(|kept| found.regressions(&kept)).unwrap_or_default();
        regressions.iter().for_each(|regression| ui::warn(regression));
        if self.args.save {
            parts::keep(Part::Work, &found, &found.table())?;
        }
        Ok(regressions.is_empty())
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
