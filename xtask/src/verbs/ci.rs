//! `cargo xtask ci`

use std::process::ExitCode;

use anyhow::Result;

use super::{fuzz, lint, test};
use crate::ui;

/// What continuous integration runs: lint, a moment of fuzzing, test. Each runs even when one before it failed.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args) -> Result<ExitCode> {
    let clean = lint::check()?;
    let fuzzed = fuzz::run(&fuzz::Args::for_seconds(15))?;
    let tested = test::run(&test::Args::all())?;
    if !clean {
        ui::error("lint failed, see above");
        return Ok(ExitCode::FAILURE);
    }
    if fuzzed != ExitCode::SUCCESS {
        ui::error("fuzzing failed, see above");
        return Ok(fuzzed);
    }
    Ok(tested)
}
