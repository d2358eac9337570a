//! How long it takes to admit a signed bundle: wall-clock time on a machine with a TPM, both emulated.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The program that measures, in the guest.
pub(crate) const PROGRAM: &str = "admission-times";

/// What it may take, in seconds.
const LIMIT_S: f64 = 2.0;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Admission {
    /// One for each bundle, in the order of their versions.
    admission_seconds: Vec<f64>,
}

impl Admission {
    /// From what [`PROGRAM`] printed; its last line says it.
    pub(crate) fn parse(output: &str) -> Result<Self> {
        let line = output.lines().next_back().context("nothing was printed")?;
        let found: Self = serde_json::from_str(line).with_context(|| format!("`{line}`"))?;
        if found.admission_seconds.is_empty() {
            bail!("no admission was measured");
        }
        Ok(found)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut seconds = self.admission_seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    /// The middle one: others have the machine's processors at times.
    pub(crate) fn median(&self) -> f64 {
        let seconds = self.sorted();
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::INFINITY)
    }

    /// Whether it is quick enough.
    pub(crate) fn is_within_limit(&self) -> bool {
        self.median() < LIMIT_S
    }
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.sorted();
        write!(
            f,
            "admission of a signed bundle (swtpm, emulated processor; signatures to maps): median {:.2} s, \
             {:.2} to {:.2} s in {} runs; limit {LIMIT_S} s",
            self.median(),
            seconds.first().copied().unwrap_or_default(),
            seconds.last().copied().unwrap_or_default(),
            seconds.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides() {
        let of = |text: &str| Admission::parse(text);
        let quick = of("   $ enforcer key gen\n{\"admission_seconds\":[0.9,9.0,0.8]}\n").unwrap();
        assert!(quick.is_within_limit());
        assert!(quick.to_string().contains("median 0.90 s, 0.80 to 9.00 s in 3 runs"), "{quick}");
        assert!(!of("{\"admission_seconds\":[2.5,0.1,2.0]}").unwrap().is_within_limit());
        for nothing in ["", "{}", "{\"admission_seconds\":[]}", "{\"admission_seconds\":[1.0]}\nmore"] {
            assert!(of(nothing).is_err(), "{nothing}");
        }
    }
}
