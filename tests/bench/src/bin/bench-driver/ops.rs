//! Running `bench-ops`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use enforcer_bench::fixture;
use enforcer_bench::operations::Measured;

/// How to run it.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    pub(crate) quick: bool,
    pub(crate) only: String,
}

impl Ops {
    /// A command for it, outside every workload.
    pub(crate) fn command(&self) -> Command {
        self.in_command(Command::new(fixture::program()))
    }

    /// Adds the arguments to a command that starts it somewhere.
    pub(crate) fn in_command(&self, mut command: Command) -> Command {
        if self.quick {
            command.arg("--quick");
        }
        command.args(["--only", &self.only]);
        command
    }

    /// Runs it.
    #[expect(clippy::unused_self, reason = "reads like the other steps")]
    pub(crate) fn measure(&self, mut command: Command) -> Result<Measured> {
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().context("starting bench-ops")?;
        ensure!(output.status.success(), "bench-ops ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("reading what bench-ops measured")
    }
}
