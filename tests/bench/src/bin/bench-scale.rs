//! `bench-scale`: 2,000 workloads with 100,000 rules between them and 5,000 cgroups, in a VM that counts instructions.
//!
//! First all workloads have the same rules, which must not take more room in the maps than one of them, then rules of
//! their own. Prints what came out as JSON.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is its result")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use enforcer::bundle::anchors::Consent;
use enforcer::bundle::sources::{self, Sources};
use enforcer::bundle::verify::{InsecureUnsigned, VerifiedBundle};
use enforcer::kernel::pin::Pins;
use enforcer::session::{Lock, RUNTIME_DIR, Session};
use enforcer_bench::large::{self, Large};
use enforcer_bench::meter;
use enforcer_common::maps;
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::Enforcer;
use enforcer_vm_tests::pins;
use serde::Serialize;

const WORKLOADS: usize = 2_000;
const RULES: usize = 50;
const CGROUPS: usize = 5_000;
const CHURN: u64 = 500;
/// Room for all of it in both generations.
const SIZES: &[&str] = &["--max-exact=262144", "--event-ring=1048576"];
const POLICIES: &str = "/tmp/scale";

/// What came out. Memory in KiB, everything else in instructions of the guest.
#[derive(Serialize)]
struct Scale {
    workloads: usize,
    rules: usize,
    cgroups: usize,
    /// Without policies.
    nothing: Memory,
    /// All workloads with the same rules.
    shared: Memory,
    /// Each with rules of its own.
    distinct: Memory,
    /// Sorting the lines of all policies.
    sort: u64,
    /// From compiled policies, of which one has changed, to new ones in force, cgroups looked at.
    swap: u64,
    /// Making and removing a cgroup: without policies, and with all of them.
    churn_before: u64,
    churn: u64,
}

#[derive(Clone, Copy, Serialize)]
struct Memory {
    maps: u64,
    daemon: u64,
}

fn main() {
    meter::check_clock().expect("a machine that counts instructions");
    let mut enforcer = Enforcer::ready_with(SIZES);
    fs::create_dir_all(POLICIES).expect("a directory for policies");
    let workloads: Vec<Cgroup> =
        (0..WORKLOADS).map(|number| Cgroup::create(&format!("workload-{number}"))).collect();
    let nothing = memory(&mut enforcer);
    let before = pins::entries();
    let churn_before = churn(&workloads[0]);

    apply(&mut enforcer, &workloads, true);
    eprintln!("equal policies applied");
    let shared = memory(&mut enforcer);
    let after = pins::entries();
    let names = (0..RULES).filter(|rule| large::is_name(*rule)).count() + 1;
    assert_eq!(after[maps::EXACT] - before[maps::EXACT], names + WORKLOADS, "one table, and a selector each");
    assert_eq!(after[maps::PREFIXES] - before[maps::PREFIXES], 1, "one table");
    assert_eq!(after[maps::BINDINGS] - before[maps::BINDINGS], WORKLOADS, "every cgroup is bound");

    apply(&mut enforcer, &workloads, false);
    eprintln!("distinct policies applied");
    let distinct = memory(&mut enforcer);
    assert_eq!(pins::entries()[maps::EXACT] - before[maps::EXACT], (names + 1) * WORKLOADS);
    let more: Vec<Cgroup> =
        (WORKLOADS..CGROUPS).map(|at| workloads[at % WORKLOADS].child(&format!("part-{at}"))).collect();
    let bound = || pins::entries()[maps::BINDINGS] - before[maps::BINDINGS];
    assert_eq!(bound(), CGROUPS, "every cgroup is bound");
    let churn = churn(&workloads[0]);
    assert_eq!(bound(), CGROUPS, "cgroups that came and went left something behind");

    let mut lines: Vec<String> = Vec::new();
    for file in files(&enforcer) {
        lines.extend(large::shuffled_lines(&fs::read_to_string(file).expect("a policy")));
    }
    let started = Instant::now();
    lines.sort();
    let sort = instructions(started);
    let swap = swap(&enforcer, &workloads[0]);
    drop((more, workloads));
    assert_eq!(bound(), 0, "bindings are left");
    let rules = WORKLOADS * RULES;
    let scale = Scale {
        workloads: WORKLOADS,
        rules,
        cgroups: CGROUPS,
        nothing,
        shared,
        distinct,
        sort,
        swap,
        churn_before,
        churn,
    };
    println!("{}", serde_json::to_string(&scale).expect("JSON"));
}

/// A policy for each workload.
fn apply(enforcer: &mut Enforcer, workloads: &[Cgroup], equal: bool) {
    for (number, cgroup) in workloads.iter().enumerate() {
        write(number, cgroup, equal, 0);
    }
    enforcer.apply_files(&[PathBuf::from(POLICIES)]);
}

fn write(number: usize, cgroup: &Cgroup, equal: bool, version: usize) {
    let name = format!("workload-{number}");
    let root = if equal { "/srv/workload".to_owned() } else { format!("/srv/{name}") };
    let policy = Large { name: &name, cgroup: cgroup.path(), root: &root, rules: RULES, version };
    fs::write(Path::new(POLICIES).join(format!("{name}.toml")), policy.to_toml()).expect("writing a policy");
}

/// What maps take, and what a daemon takes that has just taken over.
fn memory(enforcer: &mut Enforcer) -> Memory {
    enforcer.kill_daemon();
    enforcer.start_daemon();
    let maps: u64 = maps::PINNED.iter().map(|map| pins::memory(map)).sum();
    let pid = enforcer.daemon_pid().expect("the daemon runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let daemon = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    Memory { maps: maps / 1024, daemon }
}

/// Instructions for making and removing a cgroup.
fn churn(parent: &Cgroup) -> u64 {
    let directory = parent.directory().join("passing");
    let started = Instant::now();
    for _ in 0..CHURN {
        fs::create_dir(&directory).expect("making a cgroup");
        fs::remove_dir(&directory).expect("removing a cgroup");
    }
    instructions(started) / CHURN
}

/// Instructions for putting policies in force of which one has changed. The second of two counts: the first one has the
/// other half of the heads to fill.
fn swap(enforcer: &Enforcer, changing: &Cgroup) -> u64 {
    let versions = [1, 2].map(|version| {
        write(0, changing, false, version);
        compiled(enforcer)
    });
    let runtime = Path::new(RUNTIME_DIR);
    let lock = Lock::acquire(runtime).expect("the installers' lock");
    let mut session = Session::open(lock, runtime, &Pins::default()).expect("opening the pinned maps");
    let launchers = session.observe().expect("looking at what is in force").unwrap_or_default().launchers;
    let mut took = 0;
    for version in &versions {
        let started = Instant::now();
        let put = session.put(version, &launchers).expect("putting policies in force");
        took = instructions(started);
        assert!(put.installed.changed.iter().any(|name| name == "workload-0"), "{:?}", put.installed);
    }
    took
}

fn compiled(enforcer: &Enforcer) -> Vec<VerifiedBundle> {
    let Sources::Unsigned(sources) = sources::read(&files(enforcer)).expect("reading policies") else {
        panic!("nobody signed these");
    };
    sources::accept_unsigned(sources, InsecureUnsigned::of(true, Consent::Allow)).expect("compiling policies")
}

/// With the policy that every set of the tests has.
fn files(enforcer: &Enforcer) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(POLICIES).expect("the policies").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files.push(enforcer.sentinel_policy());
    files
}

/// Here a nanosecond is an instruction.
fn instructions(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
