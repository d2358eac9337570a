//! The workload that has a right to everything it does, and must get it.

use std::fs;
use std::net::SocketAddr;

use enforcer_vm_tests::actor::{Actor, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::SCRATCH;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::copy_of_actor;
use enforcer_vm_tests::servers;
use serde_json::{Value, json};

use crate::tally::Tally;

/// Its policy's name.
pub(crate) const POLICY: &str = "stress-service";

/// The workload: three processes that read, write, start programs and connect.
pub(crate) struct Service {
    cgroup: Cgroup,
    root: String,
    server: SocketAddr,
    loops: Vec<Actor>,
}

impl Service {
    pub(crate) fn new() -> Self {
        let root = format!("{SCRATCH}/stress-service");
        fs::create_dir_all(format!("{root}/data/deep/er")).expect("creating a directory");
        for name in ["settings", "data/file", "data/deep/er/file"] {
            fs::write(format!("{root}/{name}"), "").expect("creating a file");
        }
        copy_of_actor(format!("{root}/program").as_ref());
        let (server, _) = servers::tcp("127.0.0.1:0");
        Self { cgroup: Cgroup::create(POLICY), root, server, loops: Vec::new() }
    }

    pub(crate) fn policy(&self) -> Policy {
        let root = &self.root;
        Policy::of(POLICY, &self.cgroup)
            .allow("exec.allow", &format!("{root}/program"))
            .allow("file.read", &format!("{root}/settings"))
            .allow("file.read", &format!("{root}/data/**"))
            .allow("file.create", &format!("{root}/data/*"))
            .allow("network.connect", &format!("tcp {}", self.server))
            .allow("network.bind", "unix @stress-service")
    }

    fn work(&self) -> [Value; 3] {
        let root = &self.root;
        let entry = |operation: &[&str]| json!({ "expect": "allow", "op": operation });
        [
            json!([
                entry(&["open-read", &format!("{root}/settings")]),
                entry(&["open-read", &format!("{root}/data/deep/er/file")]),
                entry(&["open-create-any", &format!("{root}/data/new")]),
                entry(&["open-rdwr", &format!("{root}/data/file")]),
            ]),
            json!([entry(&["exec", &format!("{root}/program")])]),
            json!([
                entry(&["connect-tcp", &self.server.to_string()]),
                entry(&["unix-bind", "@stress-service"]),
            ]),
        ]
    }

    /// Sets it to work.
    pub(crate) fn start(&mut self) {
        for table in self.work() {
            let mut actor = Actor::start(Place::Joining(&self.cgroup)).expect("its program is listed");
            actor.ask(&op(&["loop", &table.to_string()]));
            let first = actor.report();
            assert!(first.ok, "the service does not work: {first:?}");
            self.loops.push(actor);
        }
    }

    /// What has been refused to it since the last look.
    pub(crate) fn wrong(&mut self) -> Vec<String> {
        let reports = self.loops.iter_mut().flat_map(Actor::pending);
        reports
            .filter(|report| !report.ok)
            .map(|report| format!("refused to the service: {report:?}"))
            .collect()
    }

    /// Ends it, and returns what each of its processes has done.
    pub(crate) fn finish(&mut self, tally: &Tally) -> Vec<String> {
        let reports: Vec<_> = self.loops.drain(..).map(Actor::finish).collect();
        let wrong = reports.iter().flatten().filter(|report| !report.ok);
        tally.violations(wrong.map(|report| format!("refused to the service: {report:?}")));
        reports.iter().filter_map(|reports| reports.last()).map(|report| report.detail.clone()).collect()
    }
}
