//! What a decision takes on this machine's processor, beside a bare hash look-up.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::table::aligned;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cpu {
    rows: Vec<Row>,
}

/// One kind of question to a policy of one size. Look-up and decision are without the choice of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    rules: u64,
    question: String,
    questions: u64,
    choice: Time,
    look_up: Option<Time>,
    decision: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Time {
    median_ns: f64,
    least_ns: f64,
}

impl Cpu {
    /// From what the program printed.
    pub(crate) fn parse(output: &str) -> Result<Self> {
        let found: Self = serde_json::from_str(output.trim()).with_context(|| format!("`{output}`"))?;
        ensure!(!found.rows.is_empty(), "nothing was measured");
        Ok(found)
    }

    /// As a table that Markdown understands: the least, and the median, which others that use the machine raise.
    pub(crate) fn table(&self) -> String {
        let heads = ["rules", "question", "questions", "look-up", "median", "decision", "median"];
        let mut lines = vec![heads.map(str::to_owned).to_vec()];
        for row in &self.rows {
            let mut line = vec![row.rules.to_string(), row.question.clone(), row.questions.to_string()];
            for time in [row.look_up, Some(row.decision)] {
                let times = time.map(|time| [time.least_ns, time.median_ns].map(|ns| format!("{ns:.0}")));
                line.extend(times.unwrap_or_else(|| ["–", "–"].map(str::to_owned)));
            }
            lines.push(line);
        }
        aligned(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_a_look_up_says_so() {
        let time = r#"{"median_ns":120.4,"least_ns":100.5}"#;
        let row = |look_up: &str| {
            format!(
                r#"{{"rules":20,"question":"an address","questions":1,"choice":{time},"look_up":{look_up},"decision":{time}}}"#
            )
        };
        let table = Cpu::parse(&format!(r#"{{"rows":[{},{}]}}"#, row("null"), row(time))).unwrap().table();
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let lines: Vec<_> = table.lines().map(cells).collect();
        assert_eq!(lines[2][3..8], ["1", "–", "–", "100", "120"].map(str::to_owned), "{table}");
        assert_eq!(lines[3][4..6], ["100", "120"].map(str::to_owned), "{table}");
        for nothing in ["", "{}", r#"{"rows":[]}"#] {
            assert!(Cpu::parse(nothing).is_err(), "{nothing}");
        }
    }
}
