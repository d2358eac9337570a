//! Operations over and over, while somebody else changes the policy.

use std::os::fd::AsFd;

use enforcer_vm_tests::performer::say;
use enforcer_vm_tests::report::{Failure, Outcome, Report};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

use crate::perform as perform_any;

/// How often to report progress, in rounds.
const PROGRESS: u64 = 16;

/// One operation of a round.
#[derive(Deserialize)]
struct Entry {
    expect: Expect,
    op: Vec<String>,
}

/// What must come of it, every time.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expect {
    Allow,
    Deny,
    /// Allowed by one policy and refused by the other: any clean answer will do.
    Either,
}

/// `loop JSON`: rounds of operations until standard input ends. Succeeds if no answer was ever wrong.
pub(crate) fn perform(name: &str, rest: &[String]) -> Option<Outcome> {
    match (name, rest) {
        ("loop", [table]) => Some(run(table)),
        _ => None,
    }
}

fn run(table: &str) -> Outcome {
    let entries: Vec<Entry> = serde_json::from_str(table)
        .map_err(|error| Failure { step: format!("loop table: {error}"), errno: libc::EINVAL })?;
    let (mut rounds, mut wrong, mut allowed, mut refused) = (0_u64, 0_u64, 0_u64, 0_u64);
    while !standard_input_ended() {
        for entry in &entries {
            let report = Report::new(&entry.op, perform_any(&entry.op));
            allowed += u64::from(report.ok);
            refused += u64::from(report.refused());
            let right = match entry.expect {
                Expect::Allow => report.ok,
                Expect::Deny => report.refused(),
                Expect::Either => report.ok || report.refused() || killed_on_the_way(&report),
            };
            if !right {
                wrong += 1;
                say(&report);
            }
        }
        rounds += 1;
        if rounds == 1 || rounds.is_multiple_of(PROGRESS) {
            say(&Report::new(
                &["round".into(), rounds.to_string()],
                Ok(format!("{allowed} allowed, {refused} refused")),
            ));
        }
    }
    let summary = format!("{rounds} rounds, {allowed} allowed, {refused} refused, {wrong} wrong");
    if wrong == 0 { Ok(summary) } else { Err(Failure { step: summary, errno: libc::EPROTO }) }
}

/// A program that the old policy let start and the new one did not let map: the kernel ends it.
fn killed_on_the_way(report: &Report) -> bool {
    report.step.starts_with("child: Signaled")
}

/// Whether the harness closed our standard input, which is how it says stop.
fn standard_input_ended() -> bool {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
