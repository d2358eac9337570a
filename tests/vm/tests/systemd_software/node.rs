//! A Node.js service under `policy-examples/node-app.toml`.

use std::fs;

use enforcer_vm_tests::enforcer::{Enforcer, baseline_only};
use enforcer_vm_tests::service::{Holes, assert_no_denials, policy_file};
use enforcer_vm_tests::units::{self, Running, UnitFile};

const UNIT: &str = "node-app.service";
const SERVER: &str = "127.0.0.1:8081";
const PROGRAM: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/software/server.js"));
const POLICY: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/node-app.toml"));

const UNIT_FILE: &str = "\
[Service]
User=www-data
ExecStart=/usr/bin/node /opt/node-app/server.js
StateDirectory=node-app
";

fn ask(holes: &Holes, count: usize) {
    for request in 0..count {
        let answer = holes.ask("/", "");
        assert!(answer.starts_with("sum ") && answer.ends_with("packed true"), "request {request}: {answer}");
    }
}

#[test]
fn a_node_service_computes_with_its_jit_and_its_holes_lead_nowhere() {
    let mut enforcer = Enforcer::ready();
    fs::create_dir_all("/opt/node-app").unwrap();
    fs::write("/opt/node-app/server.js", PROGRAM).unwrap();
    let _unit = UnitFile::unit(UNIT, UNIT_FILE);
    let holes = Holes::of(SERVER, "/usr/bin/dash");
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    let _app = Running::start(UNIT);
    units::wait_for_port(SERVER);
    holes.assert_open();
    if baseline_only() {
        return;
    }
    let mark = enforcer.mark();
    enforcer.apply_files(&[policy_file("node-app", POLICY)]);
    units::tell("restart", UNIT);
    units::wait_for_port(SERVER);
    ask(&holes, 50);
    assert_no_denials(&mut enforcer, mark, "of Node.js");
    holes.assert_closed(&mut enforcer, UNIT);
    ask(&holes, 2);
}
