//! `bench-host cpu|scale OBJECT`: measures on the machine itself, by its clock, and prints what came out as JSON.
//!
//! Nothing is enforced: OBJECT holds socket filters that are run by the kernel's test facility and attached to nothing,
//! and maps, which are pinned in a BPF file system that only this process sees. Where even that is not permitted, the
//! program says so and ends with [`NOT_PERMITTED`].
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a program prints is its result")]

mod cpu;
mod maps;
mod scale;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::errno::Errno;

/// The status for a machine that does not let us load anything.
const NOT_PERMITTED: u8 = 77;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let measured = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cpu", object] => cpu::measure(Path::new(object)).map(|found| serde_json::to_string(&found)),
        ["scale", object] => scale::measure(Path::new(object)).map(|found| serde_json::to_string(&found)),
        _ => bail!("usage: bench-host cpu|scale OBJECT"),
    };
    match measured {
        Ok(json) => println!("{}", json?),
        Err(error) if is_refusal(&error) => {
            eprintln!("{error:#}");
            return Ok(ExitCode::from(NOT_PERMITTED));
        }
        Err(error) => return Err(error),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the machine does not permit what we ask for. What the verifier refuses is another error (`EACCES`).
fn is_refusal(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        io == Some(Errno::EPERM as i32) || cause.downcast_ref::<Errno>() == Some(&Errno::EPERM)
    })
}

/// The middle one and the least: others have the machine's processors at times.
fn median_and_least(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[0])
}
