//! `cargo xtask ci`

use std::process::ExitCode;

use anyhow::Result;

use super::{lint, test};
use crate::ui;

/// What continuous integration runs: lint, then test. The tests run even when a lint failed.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args) -> Result<ExitCode> {
    let clean = lint::check()?;
    let tested = test::run(&test::Args::all())?;
    if !clean {
        ui::error("lint failed, see above");
        return Ok(ExitCode::FAILURE);
    }
    Ok(tested)
}
