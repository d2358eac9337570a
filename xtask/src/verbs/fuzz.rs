//! `cargo xtask fuzz`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};

use crate::paths::{self, Cache};
use crate::{process, provision, ui};

/// Build and run the libFuzzer targets of tests/fuzz.
///
/// The corpus of each target grows in target/fuzz/corpus/NAME; inputs that crash it are kept in
/// target/fuzz/artifacts/NAME.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds per target.
    #[arg(long, value_name = "S", default_value_t = 60)]
    time: u64,
    /// Only this target.
    target: Option<String>,
}

impl Args {
    /// Every target, for as long.
    pub(super) const fn for_seconds(time: u64) -> Self {
        Self { time, target: None }
    }
}

/// What cargo-fuzz passes on nightly: coverage counters and comparisons for libFuzzer, AddressSanitizer for
/// everything that is not a panic.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address --cfg fuzzing -Cdebug-assertions";

const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let package = paths::workspace().join("tests/fuzz");
    let mut targets = targets(&package)?;
    if let Some(wanted) = &args.target {
        targets.retain(|target| target == wanted);
    }
    if targets.is_empty() {
        bail!("no such target in {}", package.join("fuzz_targets").display());
    }
    provision::for_build(&Cache::open()?)?;
    build(&package)?;
    // A fuzzer is one thread.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: usize = targets.chunks(processors).map(|targets| together(targets, args.time)).sum();
    ui::out(&format!("{} targets fuzzed for {} s each, {failed} failed", targets.len(), args.time));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs targets beside each other; how many failed.
fn together(targets: &[String], seconds: u64) -> usize {
    let alone = targets.len() == 1;
    std::thread::scope(|scope| {
        let fuzzers: Vec<_> =
            targets.iter().map(|target| scope.spawn(move || fuzz(target, seconds, alone))).collect();
        let results = targets.iter().zip(fuzzers).map(|(target, fuzzer)| {
            let result =
                fuzzer.join().unwrap_or_else(|_| Err(anyhow!("the thread that waits for it panicked")));
            result.inspect_err(|error| ui::error(&format!("{target}: {error:#}"))).is_err()
        });
        results.filter(|failed| *failed).count()
    })
}

fn targets(package: &Path) -> Result<Vec<String>> {
    let directory = package.join("fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))?;
    let names = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let mut names: Vec<String> =
        names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// A target directory of its own: these flags would throw away every other build's results.
fn directory() -> PathBuf {
    paths::target().join("fuzz")
}

fn build(package: &Path) -> Result<()> {
    let step = ui::step("building the fuzz targets");
    let mut cargo = process::cargo(package);
    cargo.args(["build", "--release", "--bins", "--target", TARGET, "--target-dir"]).arg(directory());
    // Sanitizers are unstable; `--target` keeps the flags away from build scripts.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", FLAGS);
    process::output(&mut cargo)?;
    step.done();
    Ok(())
}

/// Runs one target. What it says is shown at once when it runs alone, and in one piece otherwise.
fn fuzz(target: &str, seconds: u64, alone: bool) -> Result<()> {
    let (corpus, artifacts) =
        (directory().join("corpus").join(target), directory().join("artifacts").join(target));
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    let mut program = std::process::Command::new(directory().join(TARGET).join("release").join(target));
    program.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    program.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
    // Inputs kept in the tree, where a target has some, are where the fuzzer starts.
    let seeds = paths::workspace().join("tests/fuzz/seeds").join(target);
    if seeds.is_dir() {
        program.arg(seeds);
    }
    let starting = || format!("starting {target}");
    let status = if alone {
        program.status().with_context(starting)?
    } else {
        let output = program.output().with_context(starting)?;
        ui::note(String::from_utf8_lossy(&output.stderr).trim_end());
        output.status
    };
    if !status.success() {
        bail!("{status}; the input is in {}", artifacts.display());
    }
    Ok(())
}
