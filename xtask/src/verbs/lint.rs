//! `cargo xtask lint`

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::hygiene;
use crate::manifests;
use crate::paths::{self, Cache};
use crate::{process, provision, ui};

/// Check format, clippy, dependencies, Kubernetes manifests and the tree's hygiene, without stopping at the first failure.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args) -> Result<ExitCode> {
    Ok(if check()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Check = (&'static str, fn() -> Result<()>);

const CHECKS: &[Check] = &[
    ("tree hygiene", hygiene::check),
    ("shell scripts", shell_scripts),
    ("format", format),
    ("dependencies", dependencies),
    ("Kubernetes manifests", manifests::check),
    ("clippy", clippy),
    ("clippy for eBPF", clippy_ebpf),
];

/// Runs all checks; whether all passed.
pub(super) fn check() -> Result<bool> {
    provision::for_build(&Cache::open()?)?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        match check() {
            Ok(()) => ui::note(&format!("lint: {name}: ok")),
            Err(error) => {
                ui::error(&format!("lint: {name}: {error:#}"));
                failed.push(*name);
            }
        }
    }
    if !failed.is_empty() {
        ui::error(&format!("lint failed: {}", failed.join(", ")));
    }
    Ok(failed.is_empty())
}

fn format() -> Result<()> {
    succeed(process::cargo(paths::workspace()).args(["fmt", "--all", "--check"]))?;
    // A workspace of its own.
    let fuzz = paths::workspace().join("tests/fuzz");
    if fuzz.exists() { succeed(process::cargo(&fuzz).args(["fmt", "--check"])) } else { Ok(()) }
}

fn clippy() -> Result<()> {
    let mut cargo = process::cargo(paths::workspace());
    cargo.args([
        "clippy",
        "--workspace",
        "--exclude",
        "enforcer-ebpf",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    succeed(&mut cargo)
}

fn clippy_ebpf() -> Result<()> {
    let root = fs::read_to_string(paths::workspace().join("enforcer-ebpf/src/main.rs"))
        .context("reading the crate")?;
    if !root.contains("no_std") {
        ui::note("lint: enforcer-ebpf has no programs yet");
        return Ok(());
    }
    let mut cargo = process::cargo(paths::workspace());
    cargo.args(["clippy", "-p", "enforcer-ebpf", "--release", "--target", "bpfel-unknown-none"]);
    // build-std is unstable; see rust-toolchain.toml for why the compiler is a stable one nevertheless.
    cargo.args(["-Z", "build-std=core", "--", "-D", "warnings"]).env("RUSTC_BOOTSTRAP", "1");
    succeed(&mut cargo)
}

/// cargo-deny takes several minutes to build, longer than all other checks together, so it is used where it is
/// installed and otherwise only missed aloud.
fn dependencies() -> Result<()> {
    ensure!(paths::workspace().join("deny.toml").exists(), "deny.toml is missing");
    if process::find("cargo-deny").is_none() {
        ui::warn(
            "cargo-deny is not installed: licences, bans and sources unchecked (cargo install cargo-deny --locked)",
        );
        return Ok(());
    }
    // Advisories need their database from the network; the other checks work offline.
    succeed(process::cargo(paths::workspace()).args(["deny", "check", "bans", "licenses", "sources"]))
}

fn shell_scripts() -> Result<()> {
    for file in hygiene::tracked_files()? {
        let Ok(text) = fs::read_to_string(paths::workspace().join(&file)) else { continue };
        let first = text.lines().next().unwrap_or_default();
        if first.starts_with("#!") && (first.ends_with("bash") || first.ends_with("/sh")) {
            succeed(Command::new("bash").arg("-n").arg(paths::workspace().join(&file)))?;
        }
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}
