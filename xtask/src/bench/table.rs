//! Results as text.

use super::results::{BASE, BPF, HOST, Kind, LABELLED, Results};

/// Operations by protections: the base absolute, the others as differences to it. What a policy refuses has no
/// counterpart there and is absolute.
pub(crate) fn operations(results: &Results) -> String {
    let mut lines = vec![vec!["operation".to_owned()]];
    lines[0].extend(results.rows.iter().map(|row| row.name.clone()));
    for operation in results.operations.iter().filter(|operation| operation.kind != Kind::Hook) {
        let base = results.cost(BASE, &operation.name);
        let cell = |row: &str| match (results.cost(row, &operation.name), base) {
            (None, _) => "–".to_owned(),
            (Some(cost), Some(base)) if row != BASE => difference(cost, base),
            (Some(cost), _) => cost.to_string(),
        };
        let cells: Vec<String> = results.rows.iter().map(|row| cell(&row.name)).collect();
        if cells.iter().any(|cell| cell != "–") {
            lines.push([vec![operation.name.clone()], cells].concat());
        }
    }
    aligned(&lines)
}

/// Hooks by standing of the task: the operation that reaches the hook with nothing attached, and what our programs add.
/// Hooks that nothing was measured for are named below, so that nobody takes them for free.
pub(crate) fn hooks(results: &Results) -> String {
    let heads = ["hook", "operation", "nothing attached", "host task", "labelled task"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    let mut missing = Vec::new();
    for hook in &results.hooks {
        let operation = results.operations.iter().find(|operation| operation.hooks.contains(hook));
        let costs = operation.and_then(|operation| {
            let cost = |row| results.cost(row, &operation.name);
            Some((&operation.name, cost(BPF)?, cost(HOST)?, cost(LABELLED)?))
        });
        match costs {
            Some((name, nothing, host, labelled)) => lines.push(vec![
                hook.clone(),
                name.clone(),
                nothing.to_string(),
                difference(host, nothing),
                difference(labelled, nothing),
            ]),
            None => missing.push(hook.as_str()),
        }
    }
    let mut text = aligned(&lines);
    if !missing.is_empty() {
        text.push_str(&format!("not measured: {}\n", missing.join(", ")));
    }
    text
}

fn difference(cost: u64, base: u64) -> String {
    if cost >= base { format!("+{}", cost - base) } else { format!("-{}", base - cost) }
}

/// Columns of equal width, as a table that Markdown understands.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(&format!("| {} |\n", cells.collect::<Vec<_>>().join(" | ")));
        if number == 0 {
            let rules = widths.iter().enumerate().map(|(column, width)| match column {
                0 => "-".repeat(*width + 2),
                _ => format!("{}:", "-".repeat(*width + 1)),
            });
            text.push_str(&format!("|{}|\n", rules.collect::<Vec<_>>().join("|")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::results;

    #[test]
    fn the_base_is_absolute_and_the_rest_differs_from_it() {
        let results = results(&[
            (BASE, &[("open", 5000), ("fork", 90_000)]),
            (BPF, &[("open", 5060), ("fork", 89_990)]),
            (LABELLED, &[("open", 5600), ("refused-open", 8000)]),
        ]);
        let expected = "\
            | operation    |  base | bpf | enforcer-20 |\n\
            |--------------|------:|----:|------------:|\n\
            | open         |  5000 | +60 |        +600 |\n\
            | fork         | 90000 | -10 |           – |\n\
            | refused-open |     – |   – |        8000 |\n";
        assert_eq!(operations(&results), expected);
    }

    #[test]
    fn hooks_without_a_measurement_are_named() {
        let results = results(&[
            (BPF, &[("open", 5000), ("kill", 900)]),
            (HOST, &[("open", 5300), ("kill", 1200)]),
            (LABELLED, &[("open", 6000)]),
        ]);
        let text = hooks(&results);
        assert!(
            text.contains("| file_open |      open |             5000 |      +300 |         +1000 |\n"),
            "{text}"
        );
        assert!(text.ends_with("not measured: task_kill, quota_on\n"), "{text}");
    }
}
