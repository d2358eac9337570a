//! How long it takes to admit a signed bundle: `admission-times COUNT`, as root, on a machine with a TPM.
//!
//! Each time another version is signed for the state that the machine is in, and `enforcer apply` admits it: signatures,
//! quote, slot, log, PCR, maps. Prints the seconds of each as a line of JSON, and what the last one said of its steps.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is its result")]

use std::{fs, path::Path, process::Command, time::Instant};

use enforcer_vm_tests::{
    actor::installed,
    cgroup::Cgroup,
    enforcer::{Enforcer, shown},
    policy::Policy,
    trust::Authority,
};

const POLICIES: &str = "/tmp/admission";

fn main() {
    let count =
        std::env::args().nth(1).and_then(|count| count.parse().ok()).expect("usage: admission-times COUNT");
    let _running = Enforcer::ready();
    let authority = Authority::at("/tmp/office", "app");
    authority.establish(&authority.file("state.json"));
    let state = format!("today={}", authority.file("state.json"));
    fs::create_dir_all(POLICIES).expect("a directory for the policy");
    let policy = Policy::of("app", &Cgroup::create("admission")).allow("file.read", "/tmp/allowed");
    fs::write(Path::new(POLICIES).join("app.toml"), policy.to_toml()).expect("the policy");
    let seconds: Vec<f64> = (1..=count)
        .map(|version| {
            authority.sign(Path::new(POLICIES), version, &[&state], &[]);
            let mut apply = Command::new(installed("enforcer"));
            apply.args(["apply", "--prune", POLICIES]).env("ENFORCER_LOG", "debug");
            let started = Instant::now();
            let output = apply.output().expect("running enforcer");
            let seconds = started.elapsed().as_secs_f64();
            assert!(output.status.success(), "version {version}: {}", shown(&output));
            if version == count {
                // What the time goes to.
                eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            }
            seconds
        })
        .collect();
    println!("{}", serde_json::json!({ "admission_seconds": seconds }));
}
