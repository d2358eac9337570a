//! A Java service under `policy-examples/jvm-app.toml`.
//!
//! `/opt/app/app.jar` is compiled from `tests/vm/software/App.java` when the guest's root file system is built.

use enforcer_common::verdict::Family;
use enforcer_vm_tests::enforcer::{Enforcer, baseline_only};
use enforcer_vm_tests::events::Event;
use enforcer_vm_tests::service::{Holes, assert_no_denials, lines, policy_file};
use enforcer_vm_tests::units::{self, Running, UnitFile};
use enforcer_vm_tests::wait;

const UNIT: &str = "app.service";
const SERVER: &str = "127.0.0.1:8080";
const POLICY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/jvm-app.toml"));
/// The switch that a JIT compiler needs.
const SWITCH: &str = "anonymous = true\n";

const UNIT_FILE: &str = "\
[Service]
User=www-data
ExecStart=/usr/bin/java -Xmx64m -XX:+UseSerialGC -jar /opt/app/app.jar
LogsDirectory=app
# What a JVM says when it was asked to end.
SuccessExitStatus=143
";

fn ask(holes: &Holes, count: usize) {
    for request in 0..count {
        let answer = holes.ask("/", "");
        assert!(answer.starts_with("2262 primes, mixed mode"), "request {request}: {answer}");
    }
}

#[test]
fn a_java_service_computes_with_its_jit_and_its_holes_lead_nowhere() {
    let mut enforcer = Enforcer::ready();
    let _unit = UnitFile::unit(UNIT, UNIT_FILE);
    let holes = Holes::of(SERVER, "/usr/lib/jvm/java-21-openjdk-amd64/lib/jspawnhelper");
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    let app = Running::start(UNIT);
    units::wait_for_port(SERVER);
    holes.assert_open();
    if baseline_only() {
        return;
    }
    let mark = enforcer.mark();
    enforcer.apply_files(&[policy_file("jvm-app", POLICY)]);
    units::tell("restart", UNIT);
    units::wait_for_port(SERVER);
    ask(&holes, 30);
    assert_no_denials(&mut enforcer, mark, "of the JVM");
    holes.assert_closed(&mut enforcer, UNIT);
    ask(&holes, 2);
    drop(app);

    // Without the switch there is no JIT, and the JVM does not even start.
    let mark = enforcer.mark();
    assert!(POLICY.contains(SWITCH));
    enforcer.apply_files(&[policy_file("jvm-app", &POLICY.replace(SWITCH, ""))]);
    let _ = units::systemctl(&["start", UNIT]);
    wait::until("the JVM to give up", wait::SOON * 2, || {
        (units::property(UNIT, "ActiveState") == "failed").then_some(())
    });
    let events = enforcer.events_since(mark);
    let memory = |event: &Event| event.text("family") == Family::Memory.name();
    assert!(!events.is_empty() && events.iter().all(memory), "{}", lines(&events));
    let _ = units::systemctl(&["reset-failed", UNIT]);
}
