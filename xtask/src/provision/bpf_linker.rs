//! `bpf-linker`, the exact version that reads the bitcode of our rustc.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::cargo_tool;
use crate::{process, ui};

/// 0.11 and later want a system LLVM; this one uses rustc's own.
const VERSION: &str = "0.10.3";

/// Installs it where cargo puts programs unless the right version is there.
pub(crate) fn ensure() -> Result<()> {
    if installed().is_some_and(|version| version == VERSION) {
        return Ok(());
    }
    let step = ui::step(format!("building bpf-linker {VERSION} (about a minute)"));
    let mut cargo = cargo_tool::installer("bpf-linker", VERSION);
    cargo.arg("--force").env_remove("CARGO_TARGET_DIR");
    process::output(&mut cargo).context("installing bpf-linker")?;
    step.done();
    Ok(())
}

/// Where it is.
pub(crate) fn program() -> Option<PathBuf> {
    process::find("bpf-linker").or_else(in_cargo_home)
}

fn installed() -> Option<String> {
    let program = program()?;
    let text = process::text(Command::new(program).arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

fn in_cargo_home() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    Some(home.join("bin/bpf-linker")).filter(|program| program.is_file())
}
