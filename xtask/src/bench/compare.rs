//! New results against those that were kept.

use std::fmt;

use super::results::{BPF, Results};

/// How much dearer our part of an operation may get, in percent.
const TOLERANCE_PERCENT: u64 = 5;
/// Spread of operations that nothing has changed, in instructions and as a part of the whole operation (a 200th, for
/// forks and execs).
const NOISE: u64 = 12;
const NOISE_PART: u64 = 200;
/// Operations that spread further from build to build, because they depend on where the kernel's memory happens to lie:
/// how their names start, and what part of the whole. Twice what was seen between two builds on 6.12, in rows that both
/// had in common.
const UNSTEADY: &[(&str, u64)] = &[
    ("cgroup-mkdir", 4),
    ("new-session-keyring", 5),
    ("udp4-connect", 5),
    ("map-", 16),
    ("shmat", 24),
    ("init-module", 50),
    ("finit-module", 50),
    ("tcp", 50),
    ("setxattr", 90),
];

/// Something that `--check` fails on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// There is nothing to compare with.
    NothingKept,
    /// What is kept was measured on another kernel.
    OtherKernel { kept: String, now: String },
    /// It was measured before and now was not.
    Missing { row: String, operation: String },
    /// It was never kept.
    New { row: String, operation: String },
    /// Our part has become dearer.
    Regression { row: String, operation: String, before: i64, now: i64 },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingKept => f.write_str("no results are kept for this kernel; keep these with --save"),
            Self::OtherKernel { kept, now } => {
                write!(f, "the results that are kept are of {kept}, these of {now}; keep these with --save")
            }
            Self::Missing { row, operation } => {
                write!(f, "{row}: {operation} was measured before and is missing")
            }
            Self::New { row, operation } => {
                write!(f, "{row}: {operation} is not among the results that are kept")
            }
            Self::Regression { row, operation, before, now } => {
                write!(f, "{row}: {operation} costs {now:+} now, {before:+} before")
            }
        }
    }
}

/// Compares what our programs cost, which is the difference to BPF without any. `whole` says that nothing was left out
/// on purpose, so that what is missing counts.
pub(crate) fn compare(kept: Option<&Results>, now: &Results, whole: bool) -> Vec<Finding> {
    let Some(kept) = kept else { return vec![Finding::NothingKept] };
    if kept.release != now.release {
        return vec![Finding::OtherKernel { kept: kept.release.clone(), now: now.release.clone() }];
    }
    let mut findings = Vec::new();
    if whole {
        for (row, operation) in pairs(kept).filter(|(row, operation)| now.cost(row, operation).is_none()) {
            findings.push(Finding::Missing { row: row.to_owned(), operation: operation.to_owned() });
        }
    }
    for (row, operation) in pairs(now) {
        if kept.cost(row, operation).is_none() {
            findings.push(Finding::New { row: row.to_owned(), operation: operation.to_owned() });
        } else if is_ours(row) {
            findings.extend(regression(kept, now, row, operation));
        }
    }
    findings
}

/// Others' costs are for comparison only.
fn is_ours(row: &str) -> bool {
    row == "host" || row.starts_with("enforcer-")
}

fn pairs(results: &Results) -> impl Iterator<Item = (&str, &str)> {
    results
        .rows
        .iter()
        .flat_map(|row| row.costs.keys().map(|operation| (row.name.as_str(), operation.as_str())))
}

fn regression(kept: &Results, now: &Results, row: &str, operation: &str) -> Option<Finding> {
    let part = |results: &Results| {
        // What a policy refuses has no counterpart without one.
        let without = results.cost(BPF, operation).unwrap_or(0);
        Some(results.cost(row, operation)?.cast_signed() - without.cast_signed())
    };
    let (before, after) = (part(kept)?, part(now)?);
    let noise = NOISE.max(kept.cost(row, operation)? / noise_part(operation));
    let tolerance = noise.max(before.unsigned_abs() * TOLERANCE_PERCENT / 100);
    (after > before + tolerance.cast_signed()).then(|| Finding::Regression {
        row: row.to_owned(),
        operation: operation.to_owned(),
        before,
        now: after,
    })
}

fn noise_part(operation: &str) -> u64 {
    let unsteady = UNSTEADY.iter().find(|(name, _)| operation.starts_with(name));
    unsteady.map_or(NOISE_PART, |(_, part)| *part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::results;

    fn with_cost(row: &str, cost: u64) -> Results {
        results(&[(BPF, &[("open", 5000)]), (row, &[("open", cost)])])
    }

    #[test]
    fn five_percent_of_our_part_are_a_regression() {
        let kept = with_cost("enforcer-20", 6000);
        assert_eq!(compare(Some(&kept), &kept, true), []);
        assert_eq!(compare(Some(&kept), &with_cost("enforcer-20", 6050), true), []);
        assert_eq!(compare(Some(&kept), &with_cost("enforcer-20", 5500), true), [], "cheaper is fine");
        let expected = Finding::Regression {
            row: "enforcer-20".to_owned(),
            operation: "open".to_owned(),
            before: 1000,
            now: 1051,
        };
        assert_eq!(compare(Some(&kept), &with_cost("enforcer-20", 6051), true), [expected]);
    }

    #[test]
    fn a_slower_kernel_is_not_our_regression() {
        let kept = with_cost("host", 5300);
        let now = results(&[(BPF, &[("open", 7000)]), ("host", &[("open", 7300)])]);
        assert_eq!(compare(Some(&kept), &now, true), []);
        assert_eq!(compare(Some(&with_cost("landlock-20", 6000)), &with_cost("landlock-20", 9000), true), []);
    }

    #[test]
    fn noise_is_no_regression() {
        let kept = results(&[(BPF, &[("fork", 100_000)]), ("host", &[("fork", 100_100)])]);
        let now = |cost| results(&[(BPF, &[("fork", 100_000)]), ("host", &[("fork", cost)])]);
        assert_eq!(compare(Some(&kept), &now(100_600), true), []);
        assert_eq!(compare(Some(&kept), &now(100_601), true).len(), 1);
        assert_eq!([noise_part("map-code"), noise_part("kill")], [16, NOISE_PART]);
    }

    #[test]
    fn missing_results_are_found() {
        let kept = with_cost("host", 5300);
        let now = results(&[(BPF, &[("open", 5000), ("fork", 9)])]);
        let name = |text: &str| text.to_owned();
        let missing = Finding::Missing { row: name("host"), operation: name("open") };
        let new = Finding::New { row: name(BPF), operation: name("fork") };
        assert_eq!(compare(Some(&kept), &now, true), [missing, new.clone()]);
        assert_eq!(compare(Some(&kept), &now, false), [new], "left out on purpose");
        assert_eq!(compare(None, &now, true), [Finding::NothingKept]);
        let other = Results { release: name("7.0"), ..now.clone() };
        assert_eq!(compare(Some(&kept), &other, true).len(), 1);
        assert!(compare(Some(&kept), &other, true)[0].to_string().contains("7.0"));
    }
}
