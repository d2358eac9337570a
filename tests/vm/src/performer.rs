//! The other end of [`crate::actor`]: programs that do what they are told and report it, one JSON line each.
//!
//! `PROGRAM OP ARG…` does one operation; `PROGRAM script` reads lines from standard input, each a JSON array of
//! strings. Operations of a script share one process, so `chdir`, `chroot` and open descriptors last. `PROGRAM serve
//! ADDRESS` is a server that does whatever it is talked into: it takes such lines over TCP.
//!
//! Such a program is what the tests put under a policy, so it must do what it is told and nothing else: it is built
//! without the Rust runtime's start-up (which reads `/proc/self/maps`) and calls [`main`] from a `main` of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::report::{Outcome, Report};

/// Exit status when the command line or a script line makes no sense.
const USAGE: i32 = 64;

/// Does one operation.
pub type Perform = fn(&[String]) -> Outcome;

/// The whole program; returns its exit status.
#[must_use]
pub fn main(perform: Perform) -> i32 {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        None => USAGE,
        Some("script") => script(perform),
        Some("serve") => serve(perform, arguments.get(1).map_or("", String::as_str)),
        // What holds a pod's namespaces: it never ends by itself.
        Some("pause") => loop {
            // SAFETY: takes no pointers; returns when a signal was handled, and there are no handlers.
            unsafe { libc::pause() };
        },
        // What tests start as "some other program": it succeeds and does nothing, whatever the arguments.
        Some("true") => 0,
        // For a copy that was started by another one: the exit status is all it says.
        Some("quiet") => i32::from(perform(&arguments[1..]).is_err()),
        Some(_) => i32::from(!print(perform, &arguments)),
    }
}

fn script(perform: Perform) -> i32 {
    // One line at a time and unbuffered beyond it, so that an operation can watch the rest of standard input.
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return USAGE };
        let Ok(op) = serde_json::from_str::<Vec<String>>(&line) else { return USAGE };
        print(perform, &op);
    }
    0
}

fn serve(perform: Perform, address: &str) -> i32 {
    let Ok(listener) = TcpListener::bind(address) else { return USAGE };
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let Ok(reader) = stream.try_clone() else { continue };
        for line in BufReader::new(reader).lines() {
            let Ok(line) = line else { break };
            let Ok(op) = serde_json::from_str::<Vec<String>>(&line) else { break };
            let mut report = serde_json::to_vec(&Report::new(&op, perform(&op))).unwrap_or_default();
            report.push(b'\n');
            if stream.write_all(&report).is_err() {
                break;
            }
        }
    }
    0
}

/// Does the operation and prints its report; whether it succeeded.
fn print(perform: Perform, op: &[String]) -> bool {
    let report = Report::new(op, perform(op));
    say(&report);
    report.ok
}

/// Prints one line.
pub fn say(report: &Report) {
    let mut line = serde_json::to_vec(report).unwrap_or_default();
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    // Nobody is left to tell when standard output is gone.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}
