//! Reads what Rust's test harness prints.

/// The sum over any number of test programs' output.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that were skipped.
    pub(crate) ignored: u64,
    /// `test result:` lines seen: a program that died prints none.
    pub(crate) results: u64,
    /// Names of the tests that failed.
    pub(crate) failures: Vec<String>,
    /// Names of the section being read; the harness prints two, first with output, then names alone.
    section: Option<Vec<String>>,
}

impl Summary {
    /// Takes another summary in.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.results += other.results;
        self.failures.extend(other.failures);
    }

    /// Takes the next line of output.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
            self.results += 1;
            self.failures.extend(self.section.take().unwrap_or_default());
        } else if line == "failures:" {
            self.section = Some(Vec::new());
        } else if let (Some(section), Some(name)) = (&mut self.section, line.strip_prefix("    "))
            && !name.contains(' ')
        {
            section.push(name.to_owned());
        }
    }
}

fn count(counts: &str, what: &str) -> u64 {
    let number = counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
    number.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Summary {
        let mut summary = Summary::default();
        text.lines().for_each(|line| summary.line(line));
        summary
    }

    #[test]
    fn results_add_up() {
        let summary = read(
            "running 2 tests\ntest a ... ok\ntest b ... ignored\n\n\
             test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
             test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s\n",
        );
        assert_eq!((summary.passed, summary.failed, summary.ignored, summary.results), (13, 0, 1, 2));
    }

    #[test]
    fn failures_are_named_once() {
        let summary = read(
            "test m::a ... FAILED\n\nfailures:\n\n---- m::a stdout ----\npanicked at x\n    indented_output\n\n\n\
             failures:\n    m::a\n\ntest result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((summary.passed, summary.failed), (3, 1));
        assert_eq!(summary.failures, ["m::a"]);
    }

    #[test]
    fn a_program_that_died_has_no_result() {
        assert_eq!(read("running 2 tests\ntest a ... ").results, 0);
    }
}
