//! Real programs, side by side without enforcement, in audit mode and under it.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::scale;
use super::table::aligned;

const OFF: &str = "off";
const OFF_AGAIN: &str = "off-again";
/// By how many percentage points it may grow: what runs differ by.
const TOLERANCE: f64 = 1.0;
const MODES: [&str; 3] = ["audit", "enforce", OFF_AGAIN];

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    release: String,
    jobs: Vec<Job>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Job {
    name: String,
    work: String,
    costs: BTreeMap<String, Cost>,
}

/// Instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cost {
    /// Of the job's own processes.
    job: u64,
    /// Of the whole machine.
    machine: u64,
    /// How far the clock jumped while nothing ran.
    idle: u64,
}

impl Work {
    /// From what the program printed.
    pub(crate) fn parse(output: &str) -> Result<Self> {
        let found: Self = scale::parse(output)?;
        ensure!(!found.jobs.is_empty(), "nothing was measured");
        for job in &found.jobs {
            for mode in MODES.iter().chain([&OFF]) {
                ensure!(
                    job.costs.get(*mode).is_some_and(|cost| cost.job > 0),
                    "{}: {mode} is missing",
                    job.name
                );
            }
        }
        Ok(found)
    }

    /// Jobs that enforcement makes dearer than it did when `kept` was measured, in words.
    pub(crate) fn regressions(&self, kept: &Self) -> Vec<String> {
        let part = |work: &Self, name: &str| {
            work.jobs.iter().find(|job| job.name == name).and_then(Job::enforcement)
        };
        let worse = |job: &Job| {
            let (now, before) = (job.enforcement()?, part(kept, &job.name)?);
            (now > before + TOLERANCE)
                .then(|| format!("{}: enforcement adds {now:+.1} %, {before:+.1} % before", job.name))
        };
        self.jobs.iter().filter_map(worse).collect()
    }

    /// As a table that Markdown understands: millions of instructions, and what each mode adds, of the job and of the whole
    /// machine.
    pub(crate) fn table(&self) -> String {
        let heads = ["job", "work", "off", "audit", "enforce", "off again", "enforce, whole machine"];
        let mut lines = vec![heads.map(str::to_owned).to_vec()];
        for job in &self.jobs {
            let Some(off) = job.costs.get(OFF) else { continue };
            let mut line = vec![job.name.clone(), job.work.clone(), format!("{} M", off.job / 1_000_000)];
            for mode in MODES {
                let cost = job.costs.get(mode);
                line.push(cost.map_or_else(|| "–".to_owned(), |cost| added(cost.job, off.job)));
            }
            let whole = job.costs.get("enforce").map(|cost| added(cost.machine, off.machine));
            line.push(whole.unwrap_or_else(|| "–".to_owned()));
            lines.push(line);
        }
        aligned(&lines)
    }
}

impl Job {
    /// What enforcement adds, in percent.
    fn enforcement(&self) -> Option<f64> {
        Some(percent(self.costs.get("enforce")?.job, self.costs.get(OFF)?.job))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn percent(cost: u64, off: u64) -> f64 {
    (cost as f64 / off as f64 - 1.0) * 100.0
}

fn added(cost: u64, off: u64) -> String {
    format!("{:+.1} %", percent(cost, off))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(modes: &[(&str, u64)]) -> String {
        let costs: Vec<String> = modes
            .iter()
            .map(|(mode, job)| format!(r#""{mode}":{{"job":{job},"machine":{},"idle":0}}"#, job * 2))
            .collect();
        format!(
            r#"{{"release":"6.12.1","jobs":[{{"name":"files","work":"cat","costs":{{{}}}}}]}}"#,
            costs.join(",")
        )
    }

    #[test]
    fn modes_are_compared_with_none() {
        let modes = [
            ("off", 200_000_000),
            ("audit", 206_000_000),
            ("enforce", 205_000_000),
            ("off-again", 199_000_000),
        ];
        let table = Work::parse(&format!("noise\n{}\n", text(&modes))).unwrap().table();
        let cells: Vec<_> = table.lines().nth(2).unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells[3..8], ["200 M", "+3.0 %", "+2.5 %", "-0.5 %", "+2.5 %"], "{table}");
    }

    #[test]
    fn growing_costs_are_told() {
        let with = |enforce| {
            Work::parse(&text(&[("off", 1000), ("audit", 1000), ("enforce", enforce), ("off-again", 1000)]))
                .unwrap()
        };
        assert_eq!(with(1050).regressions(&with(1045)), [""; 0]);
        assert_eq!(with(1000).regressions(&with(1045)), [""; 0]);
        assert_eq!(with(1060).regressions(&with(1045)), ["files: enforcement adds +6.0 %, +4.5 % before"]);
    }

    #[test]
    fn a_mode_that_was_not_measured_is_an_error() {
        assert!(Work::parse(&text(&[("off", 1), ("audit", 1), ("enforce", 1)])).is_err());
        assert!(Work::parse(&text(&[("off", 1), ("audit", 1), ("enforce", 0), ("off-again", 1)])).is_err());
    }
}
