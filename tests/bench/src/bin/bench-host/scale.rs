//! How long policies take to compile and to put in force, beside sorting their lines: one of 100,000 rules, and 2,000 that
//! have as many between them.
//!
//! What counts is the processor's time for us, so that others who have it meanwhile do not.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use enforcer::bundle::verify::VerifiedBundle;
use enforcer_bench::large::{self, Large};
use nix::time::ClockId;
use serde::Serialize;

use crate::maps::{Loaded, compile};
use crate::median_and_least;

const RULES: usize = 100_000;
const WORKLOADS: usize = 2_000;
const RUNS: usize = 7;

/// What came out. Times are in milliseconds of the processor, the least of several.
#[derive(Serialize)]
pub(crate) struct Scale {
    rules: usize,
    workloads: usize,
    /// Sorting the lines of the large policy.
    sort_ms: f64,
    /// From its text to what can be installed.
    compile_ms: f64,
    /// From there until it is in force, and the version before is gone.
    swap_ms: f64,
    /// The same for a version of the 2,000 of which one has changed.
    swap_one_of_many_ms: f64,
    /// Both by the clock, which also has the waiting for programs that run.
    swap_elapsed_ms: f64,
    swap_one_of_many_elapsed_ms: f64,
}

pub(crate) fn measure(object: &Path) -> Result<Scale> {
    let large = |version| Large { name: "large", cgroup: "/large", root: "/srv/app", rules: RULES, version };
    let texts = [0, 1].map(|version| large(version).to_toml());
    let lines = large::shuffled_lines(&texts[0]);
    let (mut sorting, mut compiling) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut lines = lines.clone();
        sorting.push(timed(|| lines.sort()).0);
        ensure!(lines.is_sorted(), "sorting did not sort");
        let (took, compiled) = timed(|| compile(&texts[0]));
        compiling.push(took);
        ensure!(compiled?[0].image().rules.len() == RULES, "not all rules were compiled");
    }
    let mut loaded = Loaded::new(object)?;
    let one = [compile(&texts[0])?, compile(&texts[1])?];
    let many = [many(0)?, many(1)?];
    let (swap_ms, swap_elapsed_ms) = swap(&mut loaded, &one)?;
    let (swap_one_of_many_ms, swap_one_of_many_elapsed_ms) = swap(&mut loaded, &many)?;
    Ok(Scale {
        rules: RULES,
        workloads: WORKLOADS,
        sort_ms: least_ms(sorting),
        compile_ms: least_ms(compiling),
        swap_ms,
        swap_one_of_many_ms,
        swap_elapsed_ms,
        swap_one_of_many_elapsed_ms,
    })
}

/// As many rules between them; one differs from version to version.
fn many(version: usize) -> Result<Vec<VerifiedBundle>> {
    let mut bundles = Vec::with_capacity(WORKLOADS);
    for number in 0..WORKLOADS {
        let (name, rules) = (format!("workload-{number}"), RULES / WORKLOADS);
        let (cgroup, root) = (format!("/{name}"), format!("/srv/{name}"));
        let version = if number == 0 { version } else { 0 };
        let policy = Large { name: &name, cgroup: &cgroup, root: &root, rules, version };
        bundles.extend(compile(&policy.to_toml())?);
    }
    Ok(bundles)
}

/// What a swap between two versions takes, of which one policy differs: of the processor, and by the clock.
fn swap(loaded: &mut Loaded, versions: &[Vec<VerifiedBundle>; 2]) -> Result<(f64, f64)> {
    loaded.install(&versions[1])?;
    let (mut times, mut elapsed) = (Vec::new(), Vec::new());
    for swap in 0..RUNS {
        let started = Instant::now();
        let (took, installed) = timed(|| loaded.install(&versions[swap % 2]));
        let installed = installed?;
        ensure!(installed.changed.len() == 1 && installed.untidy.is_none(), "swap {swap}: {installed:?}");
        times.push(took);
        elapsed.push(started.elapsed());
    }
    Ok((least_ms(times), least_ms(elapsed)))
}

/// The processor's time for some work of this thread, the kernel's part included.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let now = || Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("every thread has this clock"));
    let before = now();
    let result = work();
    (now() - before, result)
}

fn least_ms(times: Vec<Duration>) -> f64 {
    let (_, least) = median_and_least(times);
    (least.as_secs_f64() * 1e5).round() / 100.0
}
