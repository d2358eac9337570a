//! `bench-work`: real programs do a fixed amount of work without enforcement, in audit mode, under enforcement, and without
//! once more, all in one boot of a machine that counts instructions. Prints what came out as JSON.
//!
//! Nothing may be refused, or reported, while it is measured.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is its result")]

mod jobs;
mod machine;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use enforcer_bench::meter;
use enforcer_vm_tests::actor::installed;
use enforcer_vm_tests::enforcer::{Enforcer, shown};
use enforcer_vm_tests::service::assert_no_denials;
use serde::Serialize;

use jobs::Job;
use machine::Cost;

/// Each job is done once for the caches, and then so often; the cheapest counts.
const RUNS: usize = 2;

/// What came out.
#[derive(Serialize)]
struct Document {
    release: String,
    jobs: Vec<Row>,
}

/// A job, and what it costs by mode.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    work: &'static str,
    costs: BTreeMap<&'static str, Cost>,
}

fn main() {
    meter::check_clock().expect("a machine that counts instructions");
    let jobs = jobs::prepare();
    let mut rows: Vec<Row> =
        jobs.iter().map(|job| Row { name: job.name, work: job.work, costs: BTreeMap::new() }).collect();
    measure("off", &jobs, &mut rows);
    {
        let mut enforcer = Enforcer::ready();
        for mode in ["audit", "enforce"] {
            let mark = enforcer.mark();
            enforcer.apply_files(&jobs.iter().map(|job| job.policy(mode)).collect::<Vec<_>>());
            measure(mode, &jobs, &mut rows);
            assert_no_denials(&mut enforcer, mark, mode);
        }
        enforcer.kill_daemon();
    }
    let unload = Command::new(installed("enforcer")).args(["unload", "--yes"]).output().expect("enforcer");
    assert!(unload.status.success(), "{}", shown(&unload));
    measure("off-again", &jobs, &mut rows);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let document = Document { release: release.trim().to_owned(), jobs: rows };
    println!("{}", serde_json::to_string(&document).expect("JSON"));
}

fn measure(mode: &'static str, jobs: &[Job], rows: &mut [Row]) {
    for (job, row) in jobs.iter().zip(rows) {
        let running = job.start();
        job.run();
        let cost = (0..RUNS).map(|_| machine::cost(&job.cgroup(), || job.run())).min_by_key(|cost| cost.job);
        drop(running);
        let cost = cost.expect("it ran");
        eprintln!("{mode}: {}: {} million instructions", job.name, cost.job / 1_000_000);
        row.costs.insert(mode, cost);
    }
}
