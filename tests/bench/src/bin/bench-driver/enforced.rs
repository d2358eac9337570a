//! The enforcer with the benchmark's rules: for a task under its policy, and for one under none.

use anyhow::Result;
use enforcer_bench::fixture::{self, CHANGEABLE, PORT, READABLE};
use enforcer_bench::operations::{Measured, privileges};
use enforcer_common::hook::Privilege;
use enforcer_vm_tests::actor::{Place, command};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::Enforcer;
use enforcer_vm_tests::policy::Policy;

use crate::ops::Ops;

/// Room for the largest policy in both generations.
const SIZES: &[&str] =
    &["--max-exact=262144", "--max-prefixes=2048", "--max-ports=4096", "--event-ring=1048576"];

/// Rules of the smallest policy, for the measurement of tasks that are under none.
const SMALL: usize = 20;

pub(crate) fn measure(ops: &Ops, rules: usize) -> Result<Measured> {
    let mut enforcer = Enforcer::ready_with(SIZES);
    let cgroup = Cgroup::create("bench");
    enforcer.apply(&[&policy(&cgroup, rules)]);
    let mut command = ops.in_command(command(Place::Joining(&cgroup), fixture::program()));
    command.args(["--refused", "open,exec,connect"]);
    if rules > SMALL {
        command.arg("--common");
    }
    let measured = ops.measure(command);
    enforcer.apply(&[]);
    measured
}

pub(crate) fn measure_host(ops: &Ops) -> Result<Measured> {
    let mut enforcer = Enforcer::ready_with(SIZES);
    let cgroup = Cgroup::create("bench");
    enforcer.apply(&[&policy(&cgroup, SMALL)]);
    let measured = ops.measure(ops.command());
    enforcer.apply(&[]);
    measured
}

/// The rules of the fixture, and as many more as it takes.
fn policy(cgroup: &Cgroup, rules: usize) -> Policy {
    let mut allowances: Vec<(&str, String)> = Vec::new();
    let mut allow = |key, value: String| allowances.push((key, value));
    for program in
        [fixture::program().to_string_lossy().as_ref(), fixture::STATIC_PROGRAM, fixture::DYNAMIC_PROGRAM]
    {
        allow("exec.allow", program.to_owned());
    }
    for library in [fixture::LIBRARY, "/usr/local/lib/vm/**"] {
        allow("memory.libraries", library.to_owned());
    }
    for file in READABLE {
        allow("file.read", (*file).to_owned());
    }
    for file in ["/proc/**", "/dev/null", "/dev/net/tun"] {
        allow("file.read", file.to_owned());
    }
    allow("file.write", "/dev/net/tun".to_owned());
    allow("file.write", fixture::WRITABLE.to_owned());
    let directories: Vec<_> =
        CHANGEABLE.iter().chain(&[privileges::CGROUPS]).map(|path| path.trim_start_matches('/')).collect();
    let changeable = format!("/{{{}}}/**", directories.join(","));
    allow("file.read", changeable.clone());
    allow("file.create", changeable);
    for server in
        [format!("tcp 127.0.0.1:{PORT}"), format!("tcp [::1]:{PORT}"), format!("udp 127.0.0.1:{PORT}")]
    {
        allow("network.connect", server.clone());
        allow("network.bind", server);
    }
    allow("network.connect", format!("udp [::1]:{PORT}"));
    for host in [1, 2] {
        allow("network.bind", format!("sctp 127.0.0.{host}:{PORT}"));
    }
    for way in ["network.connect", "network.bind"] {
        allow(way, format!("unix {}/{{stream,datagram}}", fixture::WORK));
    }
    let filler = rules.saturating_sub(allowances.len());
    for privilege in Privilege::ALL {
        allowances.push(("privileges.allow", privilege.name().to_owned()));
    }
    Policy::of("bench", cgroup)
        .allow_all(allowances.iter().map(|(key, value)| (*key, value.as_str())))
        .allow_many("file.read", (0..filler).map(fixture::filler))
}
