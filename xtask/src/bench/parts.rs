//! What is measured besides operations: each part has a name, a file with what was kept, and a table in
//! docs/performance.md.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::document;
use crate::paths;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Admission of signed bundles. Nothing is kept of it.
    Admission,
    /// The decision on this machine's processor.
    Cpu,
    /// Many rules, many workloads.
    Scale,
    /// Real programs.
    Work,
}

impl Part {
    /// In the order in which they are measured.
    pub(crate) const ALL: [Self; 4] = [Self::Cpu, Self::Scale, Self::Work, Self::Admission];

    /// What `--filter` calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Cpu => "cpu",
            Self::Scale => "scale",
            Self::Work => "work",
        }
    }

    /// The part that a filter names.
    pub(crate) fn named(filter: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == filter)
    }

    /// Whether it is measured without being named.
    pub(crate) const fn is_usual(self) -> bool {
        matches!(self, Self::Cpu | Self::Admission)
    }

    fn file(self) -> PathBuf {
        paths::workspace().join(format!("tests/bench/results/{}.json", self.name()))
    }
}

/// What was kept of a part.
pub(crate) fn kept<T: DeserializeOwned>(part: Part) -> Result<Option<T>> {
    let file = part.file();
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parsing {}", file.display())).map(Some)
}

/// Keeps what was measured, and shows it in the document.
pub(crate) fn keep<T: Serialize>(part: Part, found: &T, table: &str) -> Result<()> {
    let file = part.file();
    let text = serde_json::to_string_pretty(found).context("formatting the results")? + "\n";
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    document::update_table(part.name(), table)
}

/// The table of what was kept of a part.
#[cfg(test)]
pub(super) fn kept_table(part: Part) -> Result<Option<String>> {
    use super::{cpu::Cpu, scale::Scale, work::Work};
    Ok(match part {
        Part::Admission => None,
        Part::Cpu => kept::<Cpu>(part)?.map(|found| found.table()),
        Part::Scale => kept::<Scale>(part)?.map(|found| found.tables()),
        Part::Work => kept::<Work>(part)?.map(|found| found.table()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_a_part_or_operations() {
        assert_eq!(Part::named("scale"), Some(Part::Scale));
        for operations in ["", "open", "scal"] {
            assert_eq!(Part::named(operations), None);
        }
    }
}
