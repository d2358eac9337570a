//! Large policies, many workloads: time beside sorting the same lines, and memory.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::table::aligned;

/// What compiling and swapping may take, in times that sorting the lines of the same policy takes: that holds on a slow
/// or busy machine, too. Where sorting takes 22.7 ms, compiling may take a second. A swap was to take 50 ms there, which
/// is 2.2 times; it does not, see docs/performance.md, and is kept from getting worse.
const COMPILE_SORTS: f64 = 44.0;
const SWAP_SORTS: f64 = 14.0;
/// In a guest by instructions, where memory costs nothing, and with 5,000 cgroups to look at.
const GUEST_SWAP_SORTS: f64 = 6.0;

/// What was measured on this machine: milliseconds of its processor, and by its clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    rules: u64,
    workloads: u64,
    sort_ms: f64,
    compile_ms: f64,
    swap_ms: f64,
    swap_one_of_many_ms: f64,
    swap_elapsed_ms: f64,
    swap_one_of_many_elapsed_ms: f64,
}

/// What was measured in a guest: memory in KiB, the rest in instructions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Guest {
    workloads: u64,
    rules: u64,
    cgroups: u64,
    nothing: Memory,
    shared: Memory,
    distinct: Memory,
    sort: u64,
    swap: u64,
    churn_before: u64,
    churn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Memory {
    maps: u64,
    daemon: u64,
}

/// Both. What was kept on a machine by itself has no guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scale {
    pub(crate) machine: Machine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guest: Option<Guest>,
}

/// From what a program printed; its last line says it.
pub(crate) fn parse<T: for<'de> Deserialize<'de>>(output: &str) -> Result<T> {
    let line = output.lines().next_back().context("nothing was printed")?;
    serde_json::from_str(line).with_context(|| format!("`{line}`"))
}

impl Scale {
    /// What takes too long, in words.
    pub(crate) fn findings(&self) -> Vec<String> {
        let Machine { sort_ms, compile_ms, swap_ms, swap_one_of_many_ms, .. } = self.machine;
        let in_guest = self.guest.as_ref().map(|guest| {
            ("swapping one policy of many in a guest", ratio(guest.swap, guest.sort), GUEST_SWAP_SORTS)
        });
        let limits = [
            ("compiling a large policy", compile_ms / sort_ms, COMPILE_SORTS),
            ("swapping a large policy", swap_ms / sort_ms, SWAP_SORTS),
            ("swapping one policy of many", swap_one_of_many_ms / sort_ms, SWAP_SORTS),
        ];
        limits
            .iter()
            .chain(&in_guest)
            // Written so that a ratio that is no number is found, too.
            .filter(|(_, found, limit)| !matches!(found.partial_cmp(limit), Some(std::cmp::Ordering::Less)))
            .map(|(what, found, limit)| {
                format!("{what} takes {found:.1} times as long as sorting its lines; limit {limit}")
            })
            .collect()
    }

    /// As tables that Markdown understands.
    pub(crate) fn tables(&self) -> String {
        let machine = &self.machine;
        let (rules, workloads) = (machine.rules, machine.workloads);
        let time = |what: String, ms: f64, elapsed: Option<f64>| {
            let elapsed = elapsed.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"));
            vec![what, format!("{ms:.1} ms"), format!("{:.1}", ms / machine.sort_ms), elapsed]
        };
        let mut text = aligned(&[
            ["on the machine", "processor", "sorts", "clock"].map(str::to_owned).to_vec(),
            time(format!("sorting the lines of {rules} rules"), machine.sort_ms, None),
            time("compiling them, from text".to_owned(), machine.compile_ms, None),
            time(
                "swapping them for another version".to_owned(),
                machine.swap_ms,
                Some(machine.swap_elapsed_ms),
            ),
            time(
                format!("swapping {workloads} policies of which one changed"),
                machine.swap_one_of_many_ms,
                Some(machine.swap_one_of_many_elapsed_ms),
            ),
        ]);
        if let Some(guest) = &self.guest {
            let _ = writeln!(text);
            text.push_str(&guest.tables());
        }
        text
    }
}

impl Guest {
    fn tables(&self) -> String {
        let Self { workloads, rules, cgroups, nothing, shared, distinct, sort, swap, churn_before, churn } =
            self;
        let memory = |what: &str, memory: &Memory| {
            vec![what.to_owned(), format!("{} KiB", memory.maps), format!("{} KiB", memory.daemon)]
        };
        let mut text = aligned(&[
            ["in a guest", "maps", "daemon"].map(str::to_owned).to_vec(),
            memory("without policies", nothing),
            memory(&format!("{workloads} workloads, all with the same {} rules", rules / workloads), shared),
            memory(&format!("{workloads} workloads with {rules} rules of their own"), distinct),
            vec![
                "for each workload".to_owned(),
                per(shared.maps.abs_diff(nothing.maps), *workloads),
                per(shared.daemon.abs_diff(nothing.daemon), *workloads),
            ],
            vec![
                "for each rule".to_owned(),
                per(distinct.maps.abs_diff(shared.maps), *rules),
                per(distinct.daemon.abs_diff(shared.daemon), *rules),
            ],
        ]);
        let _ = writeln!(
            text,
            "\nIn the guest, putting {workloads} policies in force of which one changed takes {swap} instructions, {:.1} times \
             what sorting their lines does; {cgroups} cgroups are looked at meanwhile. Making and removing a cgroup takes \
             {churn} instructions then, and {churn_before} without policies.",
            ratio(*swap, *sort),
        );
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other as f64
}

fn per(kib: u64, count: u64) -> String {
    format!("{:.2} KiB", ratio(kib, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale() -> Scale {
        let memory = |maps, daemon| Memory { maps, daemon };
        Scale {
            machine: Machine {
                rules: 1000,
                workloads: 10,
                sort_ms: 10.0,
                compile_ms: 400.0,
                swap_ms: 20.0,
                swap_one_of_many_ms: 10.0,
                swap_elapsed_ms: 30.0,
                swap_one_of_many_elapsed_ms: 20.0,
            },
            guest: Some(Guest {
                workloads: 10,
                rules: 1000,
                cgroups: 20,
                nothing: memory(100, 1000),
                shared: memory(110, 1020),
                distinct: memory(310, 2020),
                sort: 100,
                swap: 150,
                churn_before: 5,
                churn: 6,
            }),
        }
    }

    #[test]
    fn what_takes_too_long_is_told() {
        assert_eq!(scale().findings(), [""; 0]);
        let mut slow = scale();
        slow.machine.compile_ms = 700.0;
        slow.machine.swap_one_of_many_ms = 141.0;
        slow.guest.as_mut().unwrap().swap = 601;
        assert_eq!(slow.findings().len(), 3, "{:?}", slow.findings());
        assert!(slow.findings()[0].contains("70.0 times"), "{:?}", slow.findings());
        slow.machine.sort_ms = 0.0;
        assert_eq!(slow.findings().len(), 4, "a sort that takes no time was not measured");
    }

    #[test]
    fn memory_is_told_for_each() {
        let tables = scale().tables();
        let row = |name: &str| {
            let line = tables.lines().find(|line| line.contains(name)).unwrap();
            line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()[2..4].to_vec()
        };
        assert_eq!(row("for each workload"), ["1.00 KiB", "2.00 KiB"]);
        assert_eq!(row("for each rule"), ["0.20 KiB", "1.00 KiB"]);
        assert_eq!(row("compiling them"), ["400.0 ms", "40.0"]);
    }
}
