//! Does one operation, or a list of them, and prints one JSON line about each.
//!
//! `actor OP ARG…` does one; `actor script` reads lines from standard input, each a JSON array of strings. Some
//! operations are wrappers whose remaining arguments are another operation: `["daemonise", "open-read", "/etc/shadow"]`.
//! Operations of a script share one process, so `chdir`, `chroot` and `hold` last.
//!
//! The actor is what the tests put under a policy, so it must do what it is told and nothing else. That is why it has
//! no Rust runtime start-up (which reads `/proc/self/maps`) and spawns through plain `fork` and `execve`.
#![no_main]
#![allow(clippy::print_stdout, reason = "the output is the interface")]

mod files;
mod lineage;
mod looping;
mod memory;
mod network;
mod privileges;
mod programs;
mod system;

use std::io::{BufRead, Write};

use enforcer_vm_tests::report::{Failure, Outcome, Report};

/// Exit status when the command line or a script line makes no sense.
const USAGE: i32 = 64;

/// Entry point without Rust's runtime: see the module's documentation.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const i8) -> i32 {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        None => USAGE,
        Some("script") => script(),
        // What tests start as "some other program": it succeeds and does nothing, whatever the arguments.
        Some("true") => 0,
        // For a copy that was started by another actor: the exit status is all it says.
        Some("quiet") => i32::from(perform(&arguments[1..]).is_err()),
        Some(_) => i32::from(!print(&arguments)),
    }
}

fn script() -> i32 {
    // One line at a time and unbuffered beyond it, so that `loop` can watch the rest of standard input.
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return USAGE };
        let Ok(op) = serde_json::from_str::<Vec<String>>(&line) else { return USAGE };
        print(&op);
    }
    0
}

/// Does the operation and prints its report; whether it succeeded.
fn print(op: &[String]) -> bool {
    let report = Report::new(op, perform(op));
    say(&report);
    report.ok
}

/// Prints one line.
pub(crate) fn say(report: &Report) {
    let mut line = serde_json::to_vec(report).unwrap_or_default();
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    // Nobody is left to tell when standard output is gone.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Does one operation.
pub(crate) fn perform(op: &[String]) -> Outcome {
    let words: Vec<&str> = op.iter().map(String::as_str).collect();
    let Some((name, arguments)) = words.split_first() else { return Err(unknown("nothing")) };
    let rest = op.get(1..).unwrap_or_default();
    files::perform(name, arguments)
        .or_else(|| programs::perform(name, arguments))
        .or_else(|| memory::perform(name, arguments))
        .or_else(|| network::perform(name, arguments))
        .or_else(|| privileges::perform(name, arguments))
        .or_else(|| looping::perform(name, rest))
        .or_else(|| lineage::perform(name, rest))
        .unwrap_or_else(|| Err(unknown(name)))
}

fn unknown(name: &str) -> Failure {
    Failure { step: format!("unknown operation {name} or wrong number of arguments"), errno: libc::ENOSYS }
}
