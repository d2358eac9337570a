//! A workload that is attacked without a pause and has work to do meanwhile, so that no wrong verdict goes unseen.
//!
//! Three loops of the actor, one for each family: what a policy does not list they try again and again, what it lists they
//! need again and again. Whatever a test does to the daemon, it does while these run.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::actor::{self, Actor, Place, op};
use crate::cgroup::Cgroup;
use crate::enforcer::SCRATCH;
use crate::policy::Policy;
use crate::report::Report;
use crate::scenario::copy_of_actor;
use crate::servers::{self, Count};
use crate::wait;

/// How long a loop may take for its rounds while a daemon loads its programs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A workload under attack.
#[derive(Debug)]
pub struct Siege {
    name: &'static str,
    cgroup: Cgroup,
    root: String,
    listed: SocketAddr,
    unlisted: (SocketAddr, Count),
    loops: Vec<Besieger>,
    newcomers: usize,
}

/// A loop of attempts.
#[derive(Debug)]
struct Besieger {
    actor: Actor,
    tried: Tried,
    reports: u64,
}

/// How many attempts ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Listed, and allowed.
    pub allowed: u64,
    /// Not listed, and refused.
    pub refused: u64,
}

impl Siege {
    /// Makes the workload's cgroup, files and servers. Name of cgroup and policy.
    ///
    /// # Panics
    /// When the disk is full or loopback is not up.
    #[must_use]
    pub fn prepare(name: &'static str) -> Self {
        let root = format!("{SCRATCH}/{name}");
        fs::create_dir_all(&root).expect("creating a directory");
        for file in ["listed", "unlisted"] {
            fs::write(format!("{root}/{file}"), "").expect("creating a file");
        }
        for program in ["good", "evil"] {
            copy_of_actor(format!("{root}/{program}").as_ref());
        }
        let listed = servers::tcp("127.0.0.1:0").0;
        let unlisted = servers::tcp("127.0.0.1:0");
        Self { name, cgroup: Cgroup::create(name), root, listed, unlisted, loops: Vec::new(), newcomers: 0 }
    }

    /// What the workload may do.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::of(self.name, &self.cgroup)
            .allow("exec.allow", &self.path("good"))
            .allow("file.read", &self.path("listed"))
            .allow("network.connect", &format!("tcp {}", self.listed))
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    /// What the loops do. Each of them sleeps once a round, for a child's end: attaching programs waits until every task that
    /// was running has slept, or was met in user space by the timer. A loop that never sleeps makes an emulated processor
    /// take ten times as long for an upgrade.
    fn tables(&self) -> [Value; 3] {
        let allow = |words: &[&str]| json!({ "expect": "allow", "op": words });
        let deny = |words: &[&str]| json!({ "expect": "deny", "op": words });
        let [listed, unlisted, good, evil] =
            ["listed", "unlisted", "good", "evil"].map(|name| self.path(name));
        [
            json!([
                allow(&["open-read", &listed]),
                deny(&["open-read", &unlisted]),
                deny(&["fork", "open-read", &unlisted]),
            ]),
            json!([allow(&["exec", &good]), deny(&["exec", &evil])]),
            json!([
                allow(&["connect-tcp", &self.listed.to_string()]),
                deny(&["connect-tcp", &self.unlisted.0.to_string()]),
                deny(&["fork", "connect-tcp", &self.unlisted.0.to_string()]),
            ]),
        ]
    }

    /// Begins. The policy must be in force.
    ///
    /// # Panics
    /// When a first attempt ends wrongly.
    pub fn begin(&mut self) {
        for table in self.tables() {
            let mut actor = Actor::start(Place::Joining(&self.cgroup)).expect("its program is listed");
            // They share a processor with what they are there to watch.
            actor.be_nice();
            actor.ask(&op(&["loop", &table.to_string()]));
            self.loops.push(Besieger { actor, tried: Tried::default(), reports: 0 });
        }
        self.more_rounds();
    }

    /// Looks at what has been reported since the last time; what was tried so far.
    ///
    /// # Panics
    /// When an attack succeeded, or something listed was refused.
    pub fn look(&mut self) -> Tried {
        for besieger in &mut self.loops {
            for report in besieger.actor.pending() {
                besieger.tried = tried(&report);
                besieger.reports += 1;
            }
        }
        let sum = |of: fn(&Tried) -> u64| self.loops.iter().map(|besieger| of(&besieger.tried)).sum();
        Tried { allowed: sum(|tried| tried.allowed), refused: sum(|tried| tried.refused) }
    }

    /// Waits until every loop has finished rounds that began after this call.
    ///
    /// # Panics
    /// As [`Siege::look`].
    pub fn more_rounds(&mut self) {
        let _ = self.look();
        let seen: Vec<u64> = self.loops.iter().map(|besieger| besieger.reports).collect();
        wait::until("more rounds of every loop", PATIENCE, || {
            let _ = self.look();
            // The first of these may be about rounds from before.
            self.loops.iter().zip(&seen).all(|(besieger, seen)| besieger.reports >= seen + 2).then_some(())
        });
    }

    /// Has a process from outside join a new cgroup of the workload and attack from there.
    ///
    /// # Panics
    /// As [`Siege::look`].
    pub fn newcomer(&mut self) {
        self.newcomers += 1;
        let cgroup = self.cgroup.child(&format!("newcomer-{}", self.newcomers));
        let open = |name| op(&["open-read", &self.path(name)]);
        let reports = actor::run(Place::Joining(&cgroup), &[open("listed"), open("unlisted")])
            .expect("its program is listed");
        assert!(reports[0].ok && reports[1].refused(), "a newcomer: {reports:?}");
    }

    /// Has something refused that nobody else tries; returns the path that its event is about.
    ///
    /// # Panics
    /// When it is not refused.
    #[must_use]
    pub fn leave_a_trace(&mut self) -> String {
        self.newcomers += 1;
        let path = self.path(&format!("trace-{}", self.newcomers));
        fs::write(&path, "").expect("creating a file");
        let reports = actor::run(Place::Joining(&self.cgroup), &[op(&["open-read", &path])])
            .expect("its program is listed");
        assert!(reports[0].refused(), "{reports:?}");
        path
    }

    /// Ends it; what was tried in all.
    ///
    /// # Panics
    /// As [`Siege::look`], and when anything arrived where nothing must.
    #[must_use]
    pub fn lift(mut self) -> Tried {
        let _ = self.look();
        let mut all = Tried::default();
        for besieger in self.loops.drain(..) {
            // The last report is the loop's own summary.
            let last = besieger.actor.finish();
            let reported: Vec<Tried> = last.iter().map(tried).collect();
            let of_loop = reported.last().expect("a loop sums up");
            all.allowed += of_loop.allowed;
            all.refused += of_loop.refused;
        }
        assert_eq!(self.unlisted.1.arrivals(), 0, "somebody got through to the attacker's server");
        all
    }
}

/// The counts that a loop's report gives, which must be that of a loop without a wrong verdict.
fn tried(report: &Report) -> Tried {
    assert!(report.ok, "a wrong verdict: {report:?}");
    let count = |what: &str| {
        let words: Vec<&str> = report.detail.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| *word == what)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    let counted = |what| count(what).unwrap_or_else(|| panic!("no count of {what}: {report:?}"));
    Tried { allowed: counted("allowed"), refused: counted("refused") }
}

#[cfg(test)]
mod tests {
    use super::{Report, Tried, tried};

    #[test]
    fn counts_are_read_from_progress_and_summary() {
        for detail in ["3 allowed, 4 refused", "2 rounds, 3 allowed, 4 refused, 0 wrong"] {
            let report = Report::new(&[], Ok(detail.to_owned()));
            assert_eq!(tried(&report), Tried { allowed: 3, refused: 4 });
        }
    }
}
