//! `cargo xtask build`

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::package::is_shipped;
use crate::paths::{self, Cache};
use crate::vm::Program;
use crate::{process, provision, ui};

/// Named explicitly even though it is the host's: with `--target`, cargo keeps RUSTFLAGS away from build scripts and
/// procedural macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The packages with the VM suites. Their programs run in guests; their libraries have tests of their own, for the host.
pub(super) const VM_TESTS: &[&str] = &["enforcer-vm-tests", "enforcer-bypass-tests"];

/// The same, for suites that talk to a TPM themselves and so need libraries like `enforcer`.
pub(super) const VM_TESTS_WITH_LIBRARIES: &[&str] = &["enforcer-tpm-tests"];

/// Build `enforcer` and the VM test suites the way VMs get them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build with optimisation.
    #[arg(long)]
    release: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    let cache = Cache::open()?;
    for program in programs(&cache, profile)?.iter().chain(&suites(&cache, profile)?) {
        ui::note(&format!("{}: {}", program.name, program.file.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Which cargo profile to build with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    Dev,
    Release,
}

/// What `cargo xtask bench` runs in guests, and a program that does nothing, for others to start.
const BENCH: &str = "enforcer-bench";
const NOTHING: &str = "bench-nothing";

/// What `cargo xtask bench` needs in a guest besides [`programs`]: optimised, like what it measures.
pub(super) fn bench_programs(cache: &Cache) -> Result<Vec<Program>> {
    provision::for_build(cache)?;
    let mut ours = guest_cargo("build", Profile::Release);
    ours.args(["--bins", "-p", BENCH, "-p", NOTHING]);
    let mut programs = artifacts(ours, "bin").context("building the benchmark")?;
    // The same program again, with shared libraries.
    let mut dynamic = cargo("build", Profile::Release);
    dynamic.args(["--bins", "-p", NOTHING]);
    let dynamic = artifacts(dynamic, "bin").context("building the dynamic program")?;
    programs.extend(
        dynamic.into_iter().map(|program| Program { name: format!("{}-dynamic", program.name), ..program }),
    );
    Ok(programs)
}

/// The part of the benchmark that runs on the machine itself, and the BPF object that it loads.
pub(super) fn host_bench(cache: &Cache) -> Result<(PathBuf, PathBuf)> {
    provision::for_build(cache)?;
    let mut host = guest_cargo("build", Profile::Release);
    host.args(["-p", BENCH, "--bin", HOST_BENCH]);
    let programs = artifacts(host, "bin").context("building the benchmark for this machine")?;
    let program = programs.into_iter().find(|program| program.name == HOST_BENCH);
    Ok((program.context("cargo built no such program")?.file, decisions()?))
}

const HOST_BENCH: &str = "bench-host";

/// The decision alone, for BPF. What `enforcer/build.rs` does for the programs that are shipped, in short: by now
/// everything that it takes is there.
fn decisions() -> Result<PathBuf> {
    const BPF: &str = "bpfel-unknown-none";
    let target = paths::target().join("ebpf");
    let linker = provision::bpf_linker::program().context("bpf-linker is not where it was installed")?;
    let flags = ["-Cdebuginfo=2", "-Clink-arg=--btf", r#"--cfg=bpf_target_arch="x86_64""#].map(str::to_owned);
    let flags = [&flags[..], &[format!("-Clinker={}", linker.display())]].concat().join("\x1f");
    let mut cargo = cargo("build", Profile::Release);
    cargo.args(["-p", "enforcer-ebpf", "--bin", "decisions", "--target", BPF, "-Zbuild-std=core"]);
    cargo.arg("--target-dir").arg(&target);
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flags);
    artifacts(cargo, "bin").context("building the decision for BPF")?;
    Ok(target.join(BPF).join("release/decisions"))
}

/// Every program a guest gets on its `PATH`: `enforcer`, `enforcer-oci-hook`, `enforcer-nri`, `vm-guest` and the binaries
/// of the VM test packages.
///
/// `enforcer` is the host's own build and takes its libraries along: the TPM software stack exists as shared libraries
/// only. The others are static, because tests copy them into roots that have no libraries.
pub(super) fn programs(cache: &Cache, profile: Profile) -> Result<Vec<Program>> {
    provision::for_build(cache)?;
    let mut guest = guest_cargo("build", profile);
    guest
        .args(["--bins", "-p", "vm-guest", "-p", "enforcer-containers", "-p", "enforcer-nri"])
        .args(packages(VM_TESTS));
    let mut programs = artifacts(guest, "bin").context("building the programs for the VMs")?;
    let mut enforcer = cargo("build", profile);
    enforcer.args(["--bins", "-p", "enforcer"]);
    programs.extend(artifacts(enforcer, "bin").context("building enforcer")?);
    Ok(programs)
}

/// The programs that packages hold.
pub(super) fn shipped(cache: &Cache, profile: Profile) -> Result<Vec<Program>> {
    provision::for_build(cache)?;
    let mut hook = guest_cargo("build", profile);
    hook.args(["--bins", "-p", "enforcer-containers", "-p", "enforcer-nri"]);
    let mut programs = artifacts(hook, "bin").context("building the OCI hook and the NRI plugin")?;
    let mut enforcer = cargo("build", profile);
    enforcer.args(["--bins", "-p", "enforcer"]);
    programs.extend(artifacts(enforcer, "bin").context("building enforcer")?);
    programs.retain(is_shipped);
    Ok(programs)
}

/// The VM test packages' integration tests, one program per suite.
pub(super) fn suites(cache: &Cache, profile: Profile) -> Result<Vec<Program>> {
    provision::for_build(cache)?;
    let mut suites = Vec::new();
    for (mut cargo, names) in
        [(guest_cargo("test", profile), VM_TESTS), (cargo("test", profile), VM_TESTS_WITH_LIBRARIES)]
    {
        cargo.args(["--no-run", "--test", "*"]).args(packages(names));
        suites.extend(artifacts(cargo, "test").context("building the VM test suites")?);
    }
    Ok(suites)
}

/// Chooses packages.
fn packages(names: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    names.iter().flat_map(|package| ["-p", package])
}

fn cargo(verb: &str, profile: Profile) -> Command {
    let mut cargo = process::cargo(paths::workspace());
    cargo.args([verb, "--message-format=json-render-diagnostics"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    cargo
}

/// Cargo for static programs.
fn guest_cargo(verb: &str, profile: Profile) -> Command {
    let mut cargo = cargo(verb, profile);
    statically(&mut cargo);
    cargo
}

/// Has cargo make static programs.
pub(super) fn statically(cargo: &mut Command) {
    cargo.args(["--target", TARGET]);
    cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
}

/// Runs cargo and collects the executables of this target kind.
fn artifacts(mut cargo: Command, kind: &str) -> Result<Vec<Program>> {
    let child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let output = child.wait_with_output().context("running cargo")?;
    ensure!(output.status.success(), "cargo failed: {}", output.status);
    Ok(executables(&String::from_utf8_lossy(&output.stdout), kind))
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The executables in cargo's messages. Other messages have neither field and are passed over.
fn executables(messages: &str, kind: &str) -> Vec<Program> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let program = |message: Message| {
        let target = message.target.filter(|target| target.kind.iter().any(|k| k == kind))?;
        Some(Program { name: target.name, file: message.executable? })
    };
    parsed.filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_by_kind() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"kernel","kind":["test"]},"executable":"/t/kernel-1"}
{"reason":"compiler-artifact","target":{"name":"actor","kind":["bin"]},"executable":"/t/actor"}
{"reason":"build-script-executed","package_id":"x"}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages, "test");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].file.to_str()), ("kernel", Some("/t/kernel-1")));
        assert_eq!(executables(messages, "bin").len(), 1);
    }
}
