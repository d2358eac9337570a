//! `bench-driver [--quick] [--only TEXT] ROW…`: puts one protection after the other up, measures under each, and prints
//! [`Document`] as JSON.
//!
//! `base` and `bpf` are the same here: which of them it is, the kernel's command line has decided.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a program prints is its result")]

mod apparmor;
mod empty;
mod enforced;
mod landlock;
mod ops;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use enforcer::kernel::btf::KernelTypes;
use enforcer_bench::fixture;
use enforcer_bench::operations::{Kind, Measured, OPERATIONS, privileges};
use enforcer_common::hook::Hook;
use serde::Serialize;

use ops::Ops;

/// What came out.
#[derive(Serialize)]
struct Document {
    /// `uname -r`.
    release: String,
    operations: Vec<OperationDescription>,
    /// The hooks that this kernel has.
    hooks: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct OperationDescription {
    name: &'static str,
    kind: Kind,
    hooks: Vec<&'static str>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    measured: Measured,
}

fn main() -> Result<()> {
    let (mut ops, mut rows) = (Ops::default(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => ops.quick = true,
            "--only" => ops.only = arguments.next().context("--only TEXT")?,
            _ => rows.push(argument),
        }
    }
    fixture::lay_out()?;
    std::fs::create_dir_all(privileges::CGROUPS).context("creating a cgroup")?;
    load_modules()?;
    let types = KernelTypes::of_running_kernel().context("reading the kernel's types")?;
    let hooks: Vec<Hook> = Hook::ALL.iter().copied().filter(|hook| types.has_hook(*hook)).collect();
    // What the kernel puts off after boot would steal time from the first row. An idle guest's clock jumps, so this
    // takes no time outside.
    std::thread::sleep(Duration::from_secs(6));
    let mut done: Vec<Row> = Vec::new();
    for name in rows {
        let measured = measure(&name, &ops, &hooks).with_context(|| format!("row {name}"))?;
        eprintln!("{name}: {} operations", measured.costs.len());
        if let Some(first) = done.first() {
            nothing_lost(&first.measured, &measured).with_context(|| format!("row {name}"))?;
        }
        done.push(Row { name, measured });
    }
    println!("{}", serde_json::to_string(&document(hooks, done)?)?);
    Ok(())
}

/// Loads what operations need, and has the kernel find no program to load anything else with: what a request for a module
/// costs is that of asking.
fn load_modules() -> Result<()> {
    for module in ["sctp", "tun"] {
        let status =
            std::process::Command::new("modprobe").arg(module).status().context("starting modprobe")?;
        if !status.success() {
            // Its operations say that they cannot be done here.
            eprintln!("no module {module}");
        }
    }
    std::fs::write("/proc/sys/kernel/modprobe", "/bench/no-modprobe").context("taking modprobe away")
}

fn measure(name: &str, ops: &Ops, hooks: &[Hook]) -> Result<Measured> {
    let (kind, rules) = match name.split_once('-') {
        Some((kind, rules)) => (kind, rules.parse().with_context(|| format!("a number of rules: {rules}"))?),
        None => (name, 0),
    };
    match kind {
        "base" | "bpf" => ops.measure(ops.command()),
        "empty" => empty::measure(ops, hooks),
        "apparmor" => apparmor::measure(ops, rules),
        "landlock" => landlock::measure(ops, rules),
        "enforcer" => enforced::measure(ops, rules),
        "host" => enforced::measure_host(ops),
        _ => bail!("there is no row {name}"),
    }
}

/// What the kernel does without a protection it must do with it as well: the rules allow it.
fn nothing_lost(before: &Measured, after: &Measured) -> Result<()> {
    for (operation, reason) in &after.skipped {
        ensure!(!before.costs.contains_key(operation), "{operation} is refused: {reason}");
    }
    Ok(())
}

fn document(hooks: Vec<Hook>, rows: Vec<Row>) -> Result<Document> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
    let operations = OPERATIONS.iter().map(|operation| OperationDescription {
        name: operation.name,
        kind: operation.kind,
        hooks: operation.hooks.iter().map(|hook| hook.name()).collect(),
    });
    Ok(Document {
        release: release.trim().to_owned(),
        operations: operations.collect(),
        hooks: hooks.iter().map(|hook| hook.name()).collect(),
        rows,
    })
}
