//! Suite `systemd_trust`: the commands of `docs/trust.md`, as they stand there, on a machine with a TPM and the unit file
//! as it is shipped.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use enforcer_vm_tests::{
    actor::{self, Place, installed, op},
    cgroup::Cgroup,
    enforcer::{SIZES, shown},
    policy::Policy,
    units::{self, Running, UnitFile},
};

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/trust.md"));
const UNIT: &str = "enforcer.service";
const UNIT_TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/enforcer.service"));
const ANCHORS: &str = "/etc/enforcer/anchors.toml";
const POLICIES: &str = "/etc/enforcer/policies.d";
const ALLOWED: &str = "/var/tmp/allowed";
const SECRET: &str = "/var/tmp/secret";

/// The office where keys are kept, which here is a directory.
const OFFICE: &str = "/root/office";

/// The blocks of commands in the section with this title.
fn commands(title: &str) -> Vec<&'static str> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(title)).unwrap();
    section.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// Runs commands as a person at a terminal would, and gives what they print.
fn shell(commands: &str) -> String {
    let mut shell = Command::new("/bin/bash");
    shell.args(["-e", "-u", "-x", "-c", commands]).current_dir(OFFICE).stdin(Stdio::null());
    let output = shell.output().unwrap();
    println!("{}", shown(&output));
    assert!(output.status.success(), "{commands}{}\n{}", shown(&output), units::state(UNIT));
    String::from_utf8(output.stdout).unwrap()
}

fn is_enforced(cgroup: &Cgroup) -> bool {
    let file = |path| op(&["open-read", path]);
    let reports = actor::run(Place::Joining(cgroup), &[file(ALLOWED), file(SECRET)]).unwrap();
    assert!(reports[0].ok, "what is listed is refused");
    reports[1].refused()
}

#[test]
fn from_nothing_to_a_signed_policy() {
    let [keys, enrolment, signing, start, proof] = commands("From nothing to a signed policy")[..] else {
        panic!("the page has other blocks than this test knows")
    };
    let cgroup = Cgroup::create("page");
    fs::create_dir_all(Path::new(OFFICE).join("policies")).unwrap();
    for file in [ALLOWED, SECRET] {
        fs::write(file, "").unwrap();
    }
    // As the package would: the program, the unit, the directories.
    let _ = fs::copy(installed("enforcer"), "/usr/bin/enforcer").unwrap();
    let _ = fs::remove_file(ANCHORS);
    fs::create_dir_all(POLICIES).unwrap();
    let _unit = UnitFile::unit(UNIT, UNIT_TEXT);
    let options = format!("[Service]\nEnvironment=\"ENFORCER_OPTIONS={}\"\n", SIZES.join(" "));
    let _options = UnitFile::drop_in(UNIT, &options);

    let _ = shell(keys);
    let _ = shell(enrolment);
    // What the page says is carried between the two.
    let _ = shell(&format!("cp {ANCHORS} anchors.toml; cp {ANCHORS} machine-anchors.toml"));
    let policy = Policy::of("app", &cgroup).allow("file.read", ALLOWED);
    fs::write(Path::new(OFFICE).join("policies/app.toml"), policy.to_toml()).unwrap();
    let _ = shell(signing);
    assert!(!is_enforced(&cgroup), "nothing is in force yet");

    let _stopped = Running(UNIT);
    let status = shell(start);
    assert!(is_enforced(&cgroup), "{status}");
    assert!(status.contains("web version 1"), "{status}");

    let verdict = shell(proof);
    for part in ["policy  web version 1", "platform state  today", "app.toml", "not proved:"] {
        assert!(verdict.contains(part), "{part} is not in {verdict}");
    }

    // What the unit takes is what was signed: an edit is refused at the next reload, and what is in force stays.
    let edited = policy.allow("file.read", SECRET);
    fs::write(Path::new(POLICIES).join("app.toml"), edited.to_toml()).unwrap();
    let _ = units::systemctl(&["reload", UNIT]);
    assert!(is_enforced(&cgroup));
    assert!(units::state(UNIT).contains("refused"), "{}", units::state(UNIT));
}
