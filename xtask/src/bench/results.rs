//! The numbers of one kernel, as guests print them and as `tests/bench/results` keeps them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::paths;

/// The kernel without BPF among its security modules: everything else is told as the difference to it.
pub(crate) const BASE: &str = "base";
/// BPF among them, nothing loaded.
pub(crate) const BPF: &str = "bpf";
/// A task under a policy of the smallest size.
pub(crate) const LABELLED: &str = "enforcer-20";
/// A task under none, on a machine with one.
pub(crate) const HOST: &str = "host";

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    /// Its name.
    pub(crate) name: String,
    /// What it is measured for.
    pub(crate) kind: Kind,
    /// The hooks whose cost it shows.
    pub(crate) hooks: Vec<String>,
}

/// What an operation is measured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// What programs do all day.
    Common,
    /// What a policy refuses.
    Refused,
    /// The cost of a hook.
    Hook,
}

/// The instructions of operations under one protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The protection.
    pub(crate) name: String,
    /// By operation.
    pub(crate) costs: BTreeMap<String, u64>,
    /// What the kernel does not do, with its reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) skipped: BTreeMap<String, String>,
}

/// The results of one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// `uname -r`.
    pub(crate) release: String,
    /// In the order of the tables.
    pub(crate) operations: Vec<Operation>,
    /// The hooks that this kernel has.
    pub(crate) hooks: Vec<String>,
    /// In the order of the tables.
    pub(crate) rows: Vec<Row>,
}

impl Results {
    /// Reads what a guest printed.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("reading the benchmark's results")
    }

    /// Adds the rows of another boot of the same kernel.
    pub(crate) fn join(&mut self, other: Self) -> Result<()> {
        ensure!(self.release == other.release, "results of two kernels: {}, {}", self.release, other.release);
        ensure!(self.operations == other.operations, "results of two benchmarks");
        self.rows.extend(other.rows);
        Ok(())
    }

    /// The cost of an operation under a protection.
    pub(crate) fn cost(&self, row: &str, operation: &str) -> Option<u64> {
        self.row(row)?.costs.get(operation).copied()
    }

    /// A row by its name.
    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Where the results of a kernel are kept, by its short name.
    pub(crate) fn file(kernel: &str) -> PathBuf {
        paths::workspace().join(format!("tests/bench/results/{kernel}.json"))
    }

    /// What is kept, if anything.
    pub(crate) fn read(file: &Path) -> Result<Option<Self>> {
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("parsing {}", file.display())).map(Some)
    }

    /// Keeps them.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        let text = serde_json::to_string_pretty(self).context("formatting the results")? + "\n";
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Results with these rows: name, operation and cost.
    pub(in crate::bench) fn results(rows: &[(&str, &[(&str, u64)])]) -> Results {
        let row = |(name, costs): &(&str, &[(&str, u64)])| Row {
            name: (*name).to_owned(),
            costs: costs.iter().map(|(operation, cost)| ((*operation).to_owned(), *cost)).collect(),
            skipped: BTreeMap::new(),
        };
        let operation = |name: &str, kind, hooks: &[&str]| Operation {
            name: name.to_owned(),
            kind,
            hooks: hooks.iter().map(|hook| (*hook).to_owned()).collect(),
        };
        Results {
            release: "6.12.1".to_owned(),
            operations: vec![
                operation("open", Kind::Common, &["file_open"]),
                operation("fork", Kind::Common, &[]),
                operation("refused-open", Kind::Refused, &[]),
                operation("kill", Kind::Hook, &["task_kill"]),
            ],
            hooks: ["file_open", "task_kill", "quota_on"].map(str::to_owned).to_vec(),
            rows: rows.iter().map(row).collect(),
        }
    }

    #[test]
    fn results_survive_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a/b.json");
        assert_eq!(Results::read(&file).unwrap(), None);
        let results = results(&[(BASE, &[("open", 5)]), (BPF, &[("open", 6)])]);
        results.write(&file).unwrap();
        assert_eq!(Results::read(&file).unwrap().as_ref(), Some(&results));
        assert_eq!(
            (results.cost(BPF, "open"), results.cost(BPF, "fork"), results.cost("x", "open")),
            (Some(6), None, None)
        );
        fs::write(&file, "{}").unwrap();
        assert!(Results::read(&file).is_err());
    }

    #[test]
    fn boots_of_one_kernel_join() {
        let mut first = results(&[(BASE, &[("open", 5)])]);
        let second = results(&[(BPF, &[("open", 6)])]);
        first.join(second.clone()).unwrap();
        assert_eq!(first.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), [BASE, BPF]);
        let other = Results { release: "7.1".to_owned(), ..second };
        assert!(first.join(other).is_err());
    }
}
