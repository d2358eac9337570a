//! One file per verb. To add one: a file here, a line in [`Verb`], a line in [`Verb::run`].

mod bench;
mod build;
mod ci;
mod demo;
mod fuzz;
mod lint;
mod package;
mod setup;
mod stress;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// What xtask can do.
#[derive(Subcommand)]
pub(crate) enum Verb {
    Setup(setup::Args),
    Build(build::Args),
    Demo(demo::Args),
    Vm(vm::Args),
    Test(test::Args),
    Lint(lint::Args),
    Package(package::Args),
    Ci(ci::Args),
    Fuzz(fuzz::Args),
    Bench(bench::Args),
    Stress(stress::Args),
}

impl Verb {
    /// Runs the verb.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Setup(args) => setup::run(&args),
            Self::Build(args) => build::run(&args),
            Self::Demo(args) => demo::run(&args),
            Self::Vm(args) => vm::run(args),
            Self::Test(args) => test::run(&args),
            Self::Lint(args) => lint::run(&args),
            Self::Package(args) => package::run(&args),
            Self::Ci(args) => ci::run(&args),
            Self::Fuzz(args) => fuzz::run(&args),
            Self::Bench(args) => bench::run(&args),
            Self::Stress(args) => stress::run(&args),
        }
    }
}
