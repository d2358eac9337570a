//! A Python web application under `policy-examples/python-web.toml`, attacked through its hole.

use std::fs;
use std::path::{Path, PathBuf};

use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::events::Event;
use enforcer_vm_tests::http;
use enforcer_vm_tests::units::{self, Running, UnitFile};

const UNIT: &str = "webapp.service";
const SERVER: &str = "127.0.0.1:8080";
const PROGRAM: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/webapp.py"));
const UNIT_FILE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/webapp.service"));
const POLICY: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/python-web.toml"));

fn install() -> UnitFile {
    fs::create_dir_all("/opt/webapp").unwrap();
    fs::write("/opt/webapp/webapp.py", PROGRAM).unwrap();
    UnitFile::unit(UNIT, UNIT_FILE)
}

fn policy() -> PathBuf {
    let file = Path::new(SCRATCH).join("python-web.toml");
    fs::create_dir_all(SCRATCH).unwrap();
    fs::write(&file, POLICY).unwrap();
    file
}

fn ask(count: usize) {
    for request in 0..count {
        let answer = http::get(SERVER, "/").unwrap_or_else(|error| panic!("request {request}: {error}"));
        assert_eq!(
            (answer.status, answer.body.contains("Welcome")),
            (200, true),
            "request {request}: {answer:?}"
        );
    }
}

/// Sends a command through the hole. Where no shell may start, the application fails instead of answering.
fn inject(command: &str) -> String {
    http::get(SERVER, &format!("/size?file={}", http::escaped(&format!("x; {command}"))))
        .map_or_else(|error| format!("no answer: {error}"), |answer| answer.body)
}

#[test]
fn a_python_application_serves_and_its_hole_leads_nowhere() {
    let mut enforcer = Enforcer::ready();
    let _unit = install();
    {
        let _app = Running::start(UNIT);
        units::wait_for_port(SERVER);
        ask(1);
        assert!(inject("echo in-$((6 * 7))").contains("in-42"), "without a policy the attacker has a shell");
    }
    if baseline_only() {
        return;
    }
    enforcer.apply_files(&[policy()]);
    let mark = enforcer.mark();
    let _app = Running::start(UNIT);
    units::wait_for_port(SERVER);
    ask(200);
    units::tell("restart", UNIT);
    units::wait_for_port(SERVER);
    ask(20);
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "false denials:\n{}", lines(&events));

    let mark = enforcer.mark();
    let answer = inject("echo in-$((6 * 7))");
    assert!(!answer.contains("in-42"), "the attacker has a shell: {answer}");
    let events = enforcer.events_since(mark);
    let shell = |event: &Event| event.text("family") == "exec" && event.object("path") == "/usr/bin/dash";
    assert!(events.iter().any(shell), "the shell was not reported:\n{}", lines(&events));
    assert!(events.iter().all(|event| event.text("unit") == UNIT), "{}", lines(&events));
    ask(10);
}

fn lines(events: &[Event]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}
