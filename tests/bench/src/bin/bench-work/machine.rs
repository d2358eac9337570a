//! What the machine did meanwhile. A nanosecond is an instruction here, also of those that the scheduler counts.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

/// Instructions.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    /// Of the processes in the job's cgroup, the kernel's work for them included.
    pub(crate) job: u64,
    /// Of the whole machine: clients as well, and whatever else ran.
    pub(crate) machine: u64,
    /// How far the clock jumped while nothing ran.
    pub(crate) idle: u64,
}

/// What some work costs that is done in a cgroup, or by it.
pub(crate) fn cost(cgroup: &Path, work: impl FnOnce()) -> Cost {
    let (used, slept) = (used(cgroup), slept());
    let started = Instant::now();
    work();
    let passed = u64::try_from(started.elapsed().as_nanos()).expect("it does not take centuries");
    let idle = self::slept() - slept;
    Cost { job: self::used(cgroup) - used, machine: passed.saturating_sub(idle), idle }
}

/// Processor time of a cgroup's tasks, also of those that have ended.
fn used(cgroup: &Path) -> u64 {
    let stat = fs::read_to_string(cgroup.join("cpu.stat")).expect("the cgroup's statistics");
    let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).expect("its processor time");
    used.parse::<u64>().expect("a number") * 1000
}

/// How long the processor has been idle, in steps of ten milliseconds.
fn slept() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").expect("the kernel's uptime");
    let idle = uptime.split_whitespace().nth(1).expect("its idle time").replace('.', "");
    idle.parse::<u64>().expect("a number") * 10_000_000
}
