//! Containers come and go by the thousand: what they leave behind, what the daemon grows to, how long it keeps them waiting.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use enforcer_vm_tests::actor::{self, Place, program};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, asked, baseline_only};
use enforcer_vm_tests::pins;

use super::containers::{base, bind, named};

/// How many there are at a time.
const WINDOW: usize = 100;

/// What the daemon may grow to.
const MOST_KIB: u64 = 100 << 10;

/// The most memory that a process has had.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells");
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The processor time of a process, all its threads together, those that have ended, too.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // From `state` on: utime and stime are the 14th and 15th of all, in hundredths of a second.
    let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// The time that so many in a hundred did not exceed.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[(sorted.len() - 1) * percent / 100]
}

#[test]
fn cgroups_that_come_and_go_leave_nothing_behind() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&base(), &named("churn")]);
    let daemon = enforcer.daemon_pid().unwrap();
    let (before, used) = (pins::entries(), cpu_time(daemon));
    let count = asked("ENFORCER_VM_CGROUPS", 500, 120);
    let mut waited = Vec::with_capacity(count);
    let mut alive = VecDeque::new();
    let began = Instant::now();
    for at in 0..count {
        let cgroup = Cgroup::create(&format!("pod-churn-{at}"));
        let inside = cgroup.child("init");
        let asked = Instant::now();
        bind(&cgroup, "churn");
        waited.push(asked.elapsed());
        // What is inside was bound with it: the program is not in the base policy.
        let status = actor::status(Place::Joining(&inside), Path::new(&program()), &["true"]).unwrap();
        assert!(status.success(), "{status}");
        alive.push_back((inside, cgroup));
        if alive.len() > WINDOW {
            alive.pop_front();
        }
    }
    let took = began.elapsed();
    let bound = pins::entries()["BINDINGS"] - before["BINDINGS"];
    assert_eq!(bound, 2 * alive.len(), "two for each that is there");
    alive.clear();
    assert_eq!(pins::entries(), before, "something was left behind");
    let (first, last) = (&waited[..count / 4], &waited[count - count / 4..]);
    println!(
        "{count} containers in {took:.1?}; bound in {:.1?} (median), {:.1?} (95 of 100); in the first quarter {:.1?}, in \
         the last {:.1?}; the daemon used {:.1?} each, and at most {} KiB",
        percentile(&waited, 50),
        percentile(&waited, 95),
        percentile(first, 50),
        percentile(last, 50),
        (cpu_time(daemon) - used) / u32::try_from(count).unwrap(),
        peak_kib(daemon),
    );
    assert!(peak_kib(daemon) <= MOST_KIB, "the daemon has grown to {} KiB", peak_kib(daemon));
    assert!(percentile(last, 50) < percentile(first, 50) * 3, "it gets slower and slower");
}
