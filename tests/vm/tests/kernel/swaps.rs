//! Policies change under a running workload: old or new, never a mix, never none, and nothing is left behind.

use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use enforcer_vm_tests::actor::{Actor, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, asked, baseline_only};
use enforcer_vm_tests::pins;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::copy_of_actor;
use enforcer_vm_tests::servers;
use serde_json::json;

/// How many swaps: `ENFORCER_VM_SWAPS`, else a thousand on 6.12 and two hundred elsewhere: a swap takes half a second of
/// an emulated processor.
fn swaps() -> usize {
    asked("ENFORCER_VM_SWAPS", 1000, 200)
}

/// How many of them, in addition, by the command line.
const APPLIED: usize = 6;

/// What the workload works with.
struct World {
    root: String,
    listed: SocketAddr,
    other: SocketAddr,
    unlisted: SocketAddr,
}

impl World {
    fn create() -> Self {
        let root = format!("{SCRATCH}/swaps");
        fs::create_dir_all(&root).unwrap();
        for name in ["always", "never", "even", "odd", "mixed", "glob-always.conf", "glob-never.cong"] {
            fs::write(format!("{root}/{name}"), "").unwrap();
        }
        for name in ["good", "evil", "sometimes"] {
            copy_of_actor(format!("{root}/{name}").as_ref());
        }
        let server = || servers::tcp("127.0.0.1:0").0;
        Self { root, listed: server(), other: server(), unlisted: server() }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    /// What both policies allow.
    fn common(&self, cgroup: &Cgroup) -> Policy {
        Policy::of("swaps", cgroup)
            .allow("file.read", &self.path("always"))
            .allow("file.read", &self.path("glob-*.conf"))
            .allow("exec.allow", &self.path("good"))
            .allow("network.connect", &format!("tcp {}", self.listed))
    }

    /// Two policies that share the common part. Each grants half of what `mixed` needs: only a mix would allow it.
    fn policies(&self, cgroup: &Cgroup) -> [Policy; 2] {
        let even = self
            .common(cgroup)
            .allow("file.read", &self.path("even"))
            .allow("file.read", &self.path("mixed"))
            .allow("exec.allow", &self.path("sometimes"));
        let odd = self
            .common(cgroup)
            .allow("file.read", &self.path("od[d]"))
            .allow("file.write", &self.path("mixed"))
            .allow("network.connect", &format!("tcp {}", self.other));
        [even, odd]
    }

    fn opens(&self) -> serde_json::Value {
        json!([
            { "expect": "allow", "op": ["open-read", self.path("always")] },
            { "expect": "deny", "op": ["open-read", self.path("never")] },
            { "expect": "either", "op": ["open-read", self.path("even")] },
            { "expect": "either", "op": ["open-read", self.path("odd")] },
            { "expect": "deny", "op": ["open-rdwr", self.path("mixed")] },
            { "expect": "allow", "op": ["open-read", self.path("glob-always.conf")] },
            { "expect": "deny", "op": ["open-read", self.path("glob-never.cong")] },
            { "expect": "deny", "op": ["mmap-rwx"] },
        ])
    }

    fn connects(&self) -> serde_json::Value {
        json!([
            { "expect": "allow", "op": ["connect-tcp", self.listed.to_string()] },
            { "expect": "deny", "op": ["connect-tcp", self.unlisted.to_string()] },
            { "expect": "either", "op": ["connect-tcp", self.other.to_string()] },
        ])
    }

    fn execs(&self) -> serde_json::Value {
        json!([
            { "expect": "allow", "op": ["exec", self.path("good")] },
            { "expect": "deny", "op": ["exec", self.path("evil")] },
            { "expect": "either", "op": ["exec", self.path("sometimes")] },
        ])
    }
}

#[test]
fn a_thousand_swaps_under_load() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("swaps");
    let world = World::create();
    if baseline_only() {
        return;
    }
    let [even, odd] = world.policies(&cgroup);
    enforcer.apply(&[&even]);
    enforcer.apply(&[&odd]);
    enforcer.apply(&[&even]);
    let entries = pins::entries();
    let mut loops: Vec<Actor> = [world.opens(), world.connects(), world.execs()]
        .map(|table| {
            let mut actor = Actor::start(Place::Joining(&cgroup)).unwrap();
            actor.be_nice();
            actor.ask(&op(&["loop", &table.to_string()]));
            let first = actor.report();
            assert!(first.ok, "before the swaps: {first:?}");
            actor
        })
        .into();
    let mut watch = |swap: usize| {
        for actor in &mut loops {
            for report in actor.pending() {
                assert!(report.ok, "a wrong verdict after {swap} swaps: {report:?}");
            }
        }
    };
    // Some through the whole command line, the rest through what is behind it.
    let started = Instant::now();
    for swap in 0..APPLIED {
        enforcer.apply(&[if swap % 2 == 0 { &odd } else { &even }]);
        watch(swap);
    }
    println!("{APPLIED} times `enforcer apply` in {:?}", started.elapsed());
    let started = Instant::now();
    let count = swaps();
    enforcer.swap_in_process([&[&odd], &[&even]], count, &mut watch);
    let took = started.elapsed();
    for actor in loops {
        let last = actor.finish();
        assert!(last.iter().all(|report| report.ok), "{last:?}");
        println!("{}", last.last().map_or("", |report| &report.detail));
    }
    println!("{count} swaps in {took:?}");
    enforcer.apply(&[&even]);
    assert_eq!(pins::entries(), entries, "map entries before and after");
}
