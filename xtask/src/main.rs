//! `cargo xtask`: everything one does with this tree that is more than one cargo command.
//!
//! One file per verb under [`verbs`]. Below them: [`provision`] makes the machine ready, [`debian`] finds and
//! verifies packages, [`vm`] boots guests and runs commands in them,
//! [`matrix`] runs suites in them, [`scenarios`] has the suites that take several boots. [`package`] makes packages for hosts.
#![forbid(unsafe_code)]

mod bench;
mod debian;
mod hygiene;
mod libtest;
mod manifests;
mod matrix;
mod package;
mod paths;
mod process;
mod provision;
mod scenarios;
mod ui;
mod verbs;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// Build, set-up, VM and test verbs of this repository.
///
/// Every verb first makes the machine ready for what it needs, so each works on a fresh one.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: verbs::Verb,
}

fn main() -> ExitCode {
    match vm::on_interrupt_stop_guests().and_then(|()| Cli::parse().verb.run()) {
        Ok(status) => status,
        Err(error) => {
            ui::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
