//! Suite `signed_boots`: one machine that takes signed policies, through several boots of `xtask/src/scenarios.rs`.
//!
//! The machine has OVMF, a TPM that remembers, and `/share` as the disk that survives: what it keeps in `/etc/enforcer` and
//! `/var/lib/enforcer` is carried over. Everything goes through the command line, as operators do it.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

#[path = "signed_boots/refusals.rs"]
mod refusals;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use enforcer::measured::pcr::{PcrIndex, PcrValue, PcrValues, what_a_pcr_measures};
use enforcer_vm_tests::{
    actor::{Actor, Place, installed, op},
    cgroup::Cgroup,
    enforcer::{SIZES, run, shown, start_until_ready},
    events::{Event, EventLog, Mark},
    pins,
    policy::Policy,
    tpm::{Tpm, registers},
    trust::{ANCHORS, Authority, done},
    wait,
};
use serde_json::Value;

const NONCE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const ALLOWED: &str = "/tmp/allowed";
const SECRET: &str = "/tmp/secret";
const EVENTS: &str = "/var/log/enforcer/events.jsonl";

fn authority() -> Authority {
    Authority::at("/share/office", "app")
}

/// Where a version of the policy lies.
fn bundle(name: &str) -> PathBuf {
    Path::new("/share/bundles").join(name)
}

/// The machine's own disk: what survives a reboot is under `/share`.
fn power_on() -> Cgroup {
    for (kept, place) in [("etc", "/etc/enforcer"), ("state", "/var/lib/enforcer")] {
        let kept = Path::new("/share/disk").join(kept);
        if kept.exists() {
            copy(&kept, Path::new(place));
        }
    }
    fs::write(ALLOWED, "").unwrap();
    fs::write(SECRET, "").unwrap();
    authority().repair();
    Cgroup::create("signed")
}

fn power_off() {
    for (kept, place) in [("etc", "/etc/enforcer"), ("state", "/var/lib/enforcer")] {
        copy(Path::new(place), &Path::new("/share/disk").join(kept));
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            let _ = fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "enforcer {}: {}", arguments.join(" "), shown(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("$ enforcer {}\n{said}", arguments.join(" "));
    said
}

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)))
}

/// Writes a policy that lets the actor read one file, and signs it for states `LABEL=FILE`.
fn sign(name: &str, version: u64, cgroup: &Cgroup, states: &[&str], more: &[&str]) -> PathBuf {
    let directory = bundle(name);
    fs::create_dir_all(&directory).unwrap();
    let policy = Policy::of("app", cgroup).allow("file.read", ALLOWED);
    fs::write(directory.join("app.toml"), policy.to_toml()).unwrap();
    authority().sign(&directory, version, states, more);
    directory
}

fn daemon(policies: &Path) -> Result<Child, String> {
    let output = Path::new("/var/log/vm-artifacts/signed-daemon.log");
    fs::create_dir_all(output.parent().unwrap()).unwrap();
    let mut command = Command::new(installed("enforcer"));
    command.args(["run", "--recheck", "1", "--event-log", EVENTS, "--launcher"]).arg(installed("launcher"));
    command.args(SIZES).arg("--policy-dir").arg(policies);
    let started = Instant::now();
    let result = start_until_ready(&mut command, output);
    println!(
        "enforcer run {}: {:?} after {:.1} s",
        policies.display(),
        result.as_ref().map(Child::id),
        started.elapsed().as_secs_f64()
    );
    result
}

/// Whether a program there starts and opens a file.
fn opens(cgroup: &Cgroup, file: &str) -> bool {
    match Actor::start(Place::Joining(cgroup)) {
        Ok(mut actor) => actor.attempt(&op(&["open-read", file])).is_some_and(|report| report.ok),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
            false
        }
    }
}

fn assert_enforced(cgroup: &Cgroup) {
    assert!(opens(cgroup, ALLOWED), "what is listed is refused");
    assert!(!opens(cgroup, SECRET), "what is not listed is allowed");
}

fn log() -> EventLog {
    EventLog::at(Path::new(EVENTS))
}

/// The refusal that this attempt added to the log.
fn last_refusal(mark: Mark) -> Event {
    let refusals = log().admissions_since(mark).into_iter().rfind(|event| event.text("result") == "refused");
    refusals.expect("an event about the policies")
}

/// Tries to apply something, which must change nothing and say why.
fn survives(reason: &str, arguments: &[&str]) -> String {
    let (before, mark) = (pins::policy_maps(), log().mark());
    let said = refused(&[&["apply"], arguments].concat());
    assert!(before == pins::policy_maps(), "{reason}: the maps have changed");
    let event = last_refusal(mark);
    assert_eq!(event.text("reason"), reason, "{said}");
    assert!(said.contains(event.text("message").lines().next().unwrap()), "{said} is not in {event}");
    assert_eq!(event.text("consequence"), "unchanged");
    said
}

/// Has the machine allow nothing to any workload when what should be in force is refused.
fn deny_all_when_refused() {
    let text = fs::read_to_string(ANCHORS).unwrap();
    let changed = text.replace("on_refuse = \"last-good\"", "on_refuse = \"deny-all\"");
    assert_ne!(text, changed);
    fs::write(ANCHORS, changed).unwrap();
}

#[test]
fn the_first_boot_enrols_admits_and_proves() {
    let cgroup = power_on();
    authority().establish("/share/old.json");
    let status = json(&["tpm", "status", "--format", "json"]);
    assert_eq!(status["well"], true, "{status}");
    let ak_name = status["ak_name"].as_str().unwrap().to_owned();

    // What the next boot will measure, computed before it: its command line has one word more.
    let command_line = fs::read_to_string("/proc/cmdline").unwrap();
    let next = command_line.trim_end().replace("lockdown=none", "lockdown=none quiet");
    assert_ne!(next, command_line.trim_end());
    done(&["pcr", "predict", "--cmdline", &next, "--output", "/share/new.json"]);

    let first = sign("v1", 1, &cgroup, &["old=/share/old.json"], &[]);
    let on_call = authority().file("oncall.key");
    let emergency = ["--break-glass", "--not-after", "12h", "--ak-name", &ak_name, "--key", &on_call];
    sign("emergency", 1, &cgroup, &["any=/share/old.json"], &emergency);
    done(&["verify", first.to_str().unwrap()]);

    let mut daemon = daemon(&first).unwrap();
    assert_enforced(&cgroup);
    let status = json(&["status", "--format", "json"]);
    assert_eq!(status["standing"]["trust"], "signed", "{status}");
    assert_eq!(status["standing"]["state"], "old", "{status}");

    refusals::all(&first, &cgroup);
    // What can be frozen is: policies' maps take the next policy, but the programs' constants stay what they are.
    let writes = pins::writes_to_constants();
    assert!(!writes.is_empty(), "the programs have constants");
    for written in writes {
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
    assert_enforced(&cgroup);

    done(&["attest", "--nonce", NONCE, "--output", "/share/evidence.json"]);
    fs::copy(ANCHORS, "/share/office/machine-anchors.toml").unwrap();
    let verdict = done(&[
        "verify-evidence",
        "/share/evidence.json",
        "--nonce",
        NONCE,
        "--anchors",
        "/share/office/machine-anchors.toml",
    ]);
    for part in
        ["app version 1", "platform state  old", "leads to PCR 0, 1, 2, 3, 4, 5, 6, 7, 8, 9", "not proved:"]
    {
        assert!(verdict.contains(part), "{part} is not in {verdict}");
    }
    let other_nonce = NONCE.replace("00", "ff");
    refused(&[
        "verify-evidence",
        "/share/evidence.json",
        "--nonce",
        &other_nonce,
        "--anchors",
        "/share/office/machine-anchors.toml",
    ]);
    power_off();

    // Later in this boot something extends a PCR that the policy is bound to. What the anchors say is done at once.
    deny_all_when_refused();
    let mark = log().mark();
    Tpm::open().extend(PcrIndex::KERNEL_INPUTS, PcrValue([7; 32]));
    let alarm = wait::until("the alarm", Duration::from_secs(60), || {
        log().admissions_since(mark).into_iter().find(|event| event.text("result") == "alarm")
    });
    assert_eq!((alarm.text("reason"), alarm.text("consequence")), ("platform-state", "deny-all"));
    assert!(alarm.text("message").contains("PCR 9"), "{}", alarm.text("message"));
    wait::until("everything to be denied", Duration::from_secs(60), || {
        (!opens(&cgroup, ALLOWED)).then_some(())
    });
    let status = json(&["status", "--format", "json"]);
    assert_eq!(status["healthy"], false);
    assert!(status["problems"].to_string().contains("ALARM (platform-state)"), "{status}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn another_command_line_is_refused_and_an_update_admits_both() {
    let cgroup = power_on();
    let mark = log().mark();
    let said = daemon(&bundle("v1")).unwrap_err();
    for part in [
        "PCR 9: kernel command line and initrd",
        "expected",
        "found",
        "kernel command line",
        "enforcer pcr capture",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(!said.contains("PCR 4"), "{said}");
    let event = last_refusal(mark);
    assert_eq!((event.text("reason"), event.text("consequence")), ("platform-state", "nothing"));

    // The emergency: admitted whatever was booted, loud everywhere.
    let mut daemon = daemon(&bundle("emergency")).unwrap();
    assert_enforced(&cgroup);
    let status = run(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("BREAK-GLASS"), "{status}");
    let denial = wait::until("the denial's event", Duration::from_secs(10), || {
        log().since(mark).into_iter().find(|event| event.object("path") == SECRET)
    });
    assert_eq!(denial.0["break_glass"], true, "every event tells that it is an emergency: {}", denial.0);

    // The update: one version for both states. The new one was predicted in the old one, and came about.
    let found: PcrValues = registers();
    let predicted: Value = serde_json::from_slice(&fs::read("/share/new.json").unwrap()).unwrap();
    for pcr in [0, 4, 7, 9].map(|number| PcrIndex::new(number).unwrap()) {
        let predicted = &predicted["pcrs"][pcr.to_string()];
        assert_eq!(*predicted, found.get(pcr).unwrap().to_string(), "{}", what_a_pcr_measures(pcr));
    }
    let second = sign("v2", 2, &cgroup, &["old=/share/old.json", "new=/share/new.json"], &[]);
    done(&["apply", second.to_str().unwrap()]);
    let status = json(&["status", "--format", "json"]);
    assert_eq!(
        (&status["standing"]["trust"], &status["standing"]["state"]),
        (&"signed".into(), &"new".into())
    );
    assert_enforced(&cgroup);
    // The first version is for the other state, and older besides.
    survives("platform-state", &[bundle("v1").to_str().unwrap()]);
    power_off();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn back_in_the_first_state_the_old_version_is_refused() {
    let cgroup = power_on();
    let mark = log().mark();
    // The machine has a copy of what was admitted last, and takes that.
    let mut daemon = daemon(&bundle("v1")).unwrap();
    let events = log().admissions_since(mark);
    let reasons: Vec<&str> = events.iter().map(|event| event.text("reason")).collect();
    assert_eq!(reasons[0], "rollback", "{reasons:?}");
    assert_eq!(events[0].text("consequence"), "last-good");
    assert_enforced(&cgroup);
    let status = json(&["status", "--format", "json"]);
    assert_eq!(
        (&status["standing"]["version"], &status["standing"]["state"]),
        (&2.into(), &"old".into()),
        "{status}"
    );
    survives("rollback", &[bundle("v1").to_str().unwrap()]);
    power_off();

    // The same with the other answer to refusals: nothing is allowed from the start, and that is what evidence says.
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    deny_all_when_refused();
    let mark = log().mark();
    let mut daemon = self::daemon(&bundle("v1")).unwrap();
    let event = last_refusal(mark);
    assert_eq!((event.text("reason"), event.text("consequence")), ("rollback", "deny-all"));
    assert!(!opens(&cgroup, ALLOWED), "something is allowed");
    done(&["attest", "--nonce", NONCE, "--output", "/share/denied.json"]);
    let said = run(&["verify-evidence", "/share/denied.json", "--nonce", NONCE, "--anchors", ANCHORS]);
    assert!(shown(&said).contains("NOTHING IS ALLOWED to any workload: rollback"), "{}", shown(&said));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn without_a_tpm_nothing_is_admitted() {
    let _cgroup = power_on();
    let mark = log().mark();
    let said = daemon(&bundle("v2")).unwrap_err();
    assert!(said.contains("there is no TPM"), "{said}");
    let event = last_refusal(mark);
    assert_eq!((event.text("reason"), event.text("consequence")), ("tpm-absent", "nothing"));
    assert!(!pins::directory().exists(), "something was loaded");
}
