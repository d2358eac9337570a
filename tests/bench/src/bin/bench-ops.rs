//! `bench-ops [--quick] [--common] [--refused LIST] [--only TEXT]`: measures operations and prints [`Measured`] as JSON.
//!
//! `--refused open,exec,connect` says what the protection in force refuses, so that it can be measured.
//! `--common` leaves out the operations that are there to reach one hook. What does not go as it should ends the
//! program: a row that measures errors is worth nothing.
#![allow(clippy::print_stdout, reason = "what a program prints is its result")]

use anyhow::{Result, bail};
use enforcer_bench::meter::{self, BATCHES, QUICK_BATCHES};
use enforcer_bench::operations::{Kind, Measured, OPERATIONS};

fn main() -> Result<()> {
    let (mut batches, mut refused, mut common, mut only) = (BATCHES, String::new(), false, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => batches = QUICK_BATCHES,
            "--refused" => refused = arguments.next().unwrap_or_default(),
            "--common" => common = true,
            "--only" => only = arguments.next().unwrap_or_default(),
            other => bail!("bench-ops knows no {other}"),
        }
    }
    meter::check_clock()?;
    let wanted = OPERATIONS.iter().filter(|operation| match operation.kind {
        Kind::Common => true,
        Kind::Refused => refused.split(',').any(|kind| operation.name.strip_prefix("refused-") == Some(kind)),
        Kind::Hook => !common,
    });
    let mut measured = Measured::default();
    for operation in wanted.filter(|operation| operation.name.contains(&only)) {
        match meter::measure(operation, batches) {
            Ok(cost) => drop(measured.costs.insert(operation.name.to_owned(), cost)),
            // Not every kernel has all of them. The driver sees to it that a protection does not take any away.
            Err(error) if operation.kind == Kind::Hook => {
                measured.skipped.insert(operation.name.to_owned(), format!("{error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
