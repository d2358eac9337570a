//! Python with extension modules (numpy, sqlite3, ssl) under `policy-examples/python-native.toml`.

use std::fs;

use enforcer_common::verdict::Family;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::service::{Holes, assert_no_denials, assert_refused, policy_file};
use enforcer_vm_tests::units::{self, Running, UnitFile};

const UNIT: &str = "forecast.service";
const SERVER: &str = "127.0.0.1:8082";
const PROGRAM: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/software/forecast.py"));
const POLICY: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/python-native.toml"));

const UNIT_FILE: &str = "\
[Service]
User=www-data
ExecStart=/usr/bin/python3 /opt/forecast/forecast.py
Environment=PYTHONDONTWRITEBYTECODE=1
StateDirectory=forecast
";

/// A library of Debian's, but where anybody may write.
fn dropped_library() -> String {
    let library = format!("{SCRATCH}/dropped.so");
    fs::copy("/usr/lib/x86_64-linux-gnu/libz.so.1", &library).unwrap();
    library
}

fn ask(holes: &Holes, count: usize) {
    for request in 0..count {
        let answer = holes.ask("/", "");
        let right = answer.starts_with("slope 3.00 start 7.00 corner 1.0 kept True True ");
        assert!(right, "request {request}: {answer}");
    }
}

#[test]
fn extension_modules_work_and_others_cannot_be_loaded() {
    let mut enforcer = Enforcer::ready();
    fs::create_dir_all("/opt/forecast").unwrap();
    fs::write("/opt/forecast/forecast.py", PROGRAM).unwrap();
    let _unit = UnitFile::unit(UNIT, UNIT_FILE);
    let holes = Holes::of(SERVER, "/usr/bin/dash");
    let library = dropped_library();
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    let _app = Running::start(UNIT);
    units::wait_for_port(SERVER);
    holes.assert_open();
    assert_eq!(holes.ask("/load", &library), "loaded True", "without a policy any library can be loaded");
    if baseline_only() {
        return;
    }
    let mark = enforcer.mark();
    enforcer.apply_files(&[policy_file("python-native", POLICY)]);
    units::tell("restart", UNIT);
    units::wait_for_port(SERVER);
    ask(&holes, 5);
    assert_no_denials(&mut enforcer, mark, "of Python");
    holes.assert_closed(&mut enforcer, UNIT);
    let mark = enforcer.mark();
    let answer = holes.ask("/load", &library);
    assert!(answer.starts_with("failed"), "{answer}");
    assert_refused(&mut enforcer, mark, UNIT, &[(Family::File, library.as_str())]);
    ask(&holes, 1);
}
