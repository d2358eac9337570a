//! What the kernel's record does not say: names, paths, ancestors. Best effort: a process that is gone has no
//! ancestors any more, and the record then says only what the kernel knew.

use std::{
    collections::HashMap,
    fs,
    os::unix::ffi::OsStrExt as _,
    time::{Duration, Instant},
};

use super::{
    decode::Event,
    record::{Context, Parent, Record},
    suggest::suggest,
    text,
    time::{rfc3339, wall_clock},
};
use crate::{
    cgroups::{self, Hierarchy},
    kernel::state::{StateFile, StateStore as _, Version},
};

/// How the trust of policies for emergencies begins, in the state file.
const BREAK_GLASS: &str = "break-glass";

/// How many ancestors a record lists.
const GENERATIONS: usize = 8;

/// Adds context to events.
pub struct Enricher {
    names: PolicyNames,
    cgroups: CgroupPaths,
    processes: Processes,
}

impl Enricher {
    /// Looks policies up in `state` and cgroups in `hierarchy`.
    #[must_use]
    pub fn new(state: StateFile, hierarchy: Option<Hierarchy>) -> Self {
        Self {
            names: PolicyNames { state, known: HashMap::new(), read: None },
            cgroups: CgroupPaths { hierarchy, known: HashMap::new(), walked: None },
            processes: Processes { known: HashMap::new(), since: Instant::now() },
        }
    }

    /// The record of an event.
    pub fn record(&mut self, event: &Event) -> Record {
        let (policy, break_glass) = self.names.find(event.slot, event.incarnation).unzip();
        let context = Context {
            time: rfc3339(wall_clock(event.boot_ns)),
            policy,
            break_glass: break_glass.unwrap_or(false),
            cgroup: self.cgroups.find(event.cgroup, event.pid),
            parents: self.processes.ancestors(event),
            suggestion: suggest(event),
        };
        Record::of(event, context)
    }
}

/// The hierarchy is walked again at most this often for a cgroup that was not there.
const PATIENCE: Duration = Duration::from_secs(1);

fn is_due(last: &mut Option<Instant>) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= PATIENCE);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Policy names by slot and incarnation. Names are kept when a policy goes: events about it may still be on the way.
struct PolicyNames {
    state: StateFile,
    /// Name, and whether it is for an emergency.
    known: HashMap<(u32, u32), (String, bool)>,
    /// The file that they were read from.
    read: Option<Version>,
}

impl PolicyNames {
    fn find(&mut self, slot: u32, incarnation: u32) -> Option<(String, bool)> {
        self.refresh();
        self.known.get(&(slot, incarnation)).cloned()
    }

    /// Reads the file if it is another one. A policy's name is in it before the kernel knows the policy, so the name of
    /// every event's policy is found; an incarnation outlives a change of trust, so what is known is overwritten.
    fn refresh(&mut self) {
        let version = self.state.version();
        if version == self.read {
            return;
        }
        let state = self.state.load().ok().flatten();
        for snapshot in
            state.iter().flat_map(|state| [state.pending.as_ref(), Some(&state.installed)]).flatten()
        {
            for policy in &snapshot.policies {
                let break_glass = policy.trust.starts_with(BREAK_GLASS);
                self.known.insert((policy.slot, policy.incarnation), (policy.name.clone(), break_glass));
            }
        }
        self.read = version;
    }
}

/// Cgroup paths by id. Ids are never used again, so what is known stays true.
struct CgroupPaths {
    hierarchy: Option<Hierarchy>,
    known: HashMap<u64, Vec<u8>>,
    walked: Option<Instant>,
}

impl CgroupPaths {
    /// Enough for every live cgroup of a busy host; past it the ids of dead ones are dropped.
    const MOST: usize = 65_536;

    fn find(&mut self, id: u64, pid: u32) -> Option<Vec<u8>> {
        if let Some(path) = self.known.get(&id) {
            return Some(path.clone());
        }
        let hierarchy = self.hierarchy.as_ref()?;
        // The process is the shorter way, unless it has moved or is gone.
        if let Some(path) = cgroups::of_process(pid).filter(|path| hierarchy.id(path) == Some(id)) {
            self.learn(id, path.clone());
            return Some(path);
        }
        if is_due(&mut self.walked) {
            let all = hierarchy.walk().unwrap_or_default();
            all.into_iter().for_each(|cgroup| self.learn(cgroup.id, cgroup.path));
        }
        self.known.get(&id).cloned()
    }

    fn learn(&mut self, id: u64, path: Vec<u8>) {
        if self.known.len() >= Self::MOST {
            self.known.clear();
        }
        self.known.insert(id, path);
    }
}

/// What procfs says of processes, remembered for a moment: a flood of denials comes from few processes, and reading
/// procfs for each would keep the log minutes behind.
struct Processes {
    known: HashMap<u32, Option<(Parent, u32)>>,
    since: Instant,
}

impl Processes {
    /// How long an answer is good. A process may start another program within it, and be called by its old name.
    const MOMENT: Duration = Duration::from_millis(100);

    /// Ancestors of the event's process, nearest first.
    fn ancestors(&mut self, event: &Event) -> Vec<Parent> {
        if self.since.elapsed() >= Self::MOMENT {
            self.known.clear();
            self.since = Instant::now();
        }
        let mut parents = Vec::new();
        let mut next = event.ppid;
        while next != 0 && parents.len() < GENERATIONS {
            match (self.find(next), parents.is_empty()) {
                (Some((parent, above)), _) => {
                    parents.push(parent);
                    next = above;
                }
                // Gone, but the kernel told its name.
                (None, true) => {
                    parents.push(Parent { pid: next, comm: text::from_bytes(&event.parent_comm), exe: None });
                    break;
                }
                (None, false) => break,
            }
        }
        parents
    }

    fn find(&mut self, pid: u32) -> Option<(Parent, u32)> {
        self.known.entry(pid).or_insert_with(|| process(pid)).clone()
    }
}

/// A process and its parent's id.
fn process(pid: u32) -> Option<(Parent, u32)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let (comm, above) = parse_stat(&stat)?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let exe = exe.map(|path| text::from_bytes(path.as_os_str().as_bytes()));
    Some((Parent { pid, comm: text::from_bytes(comm), exe }, above))
}

/// Name and parent in `/proc/PID/stat`. The name is in parentheses and may itself hold any character.
fn parse_stat(stat: &[u8]) -> Option<(&[u8], u32)> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let comm = stat.get(open + 1..close)?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    Some((comm, rest.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::state::{PolicyRecord, SCHEMA, Snapshot, State};

    #[test]
    fn stat_lines() {
        assert_eq!(parse_stat(b"12 (cat) S 11 12"), Some((&b"cat"[..], 11)));
        assert_eq!(parse_stat(b"12 (a) b (c) R 7 1 1"), Some((&b"a) b (c"[..], 7)));
        assert_eq!(parse_stat(b"12 cat S 11"), None);
        assert_eq!(parse_stat(b"12 (cat"), None);
    }

    /// However short the time since the file was last read.
    #[test]
    fn the_name_of_a_policy_that_has_just_come() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = StateFile::in_directory(directory.path());
        let mut names = PolicyNames { state: state.clone(), known: HashMap::new(), read: None };
        assert_eq!(names.find(2, 7), None);
        let installed = |slot, incarnation, trust: &str| Snapshot {
            policies: vec![PolicyRecord {
                containers: None,
                name: format!("policy-{slot}"),
                slot,
                incarnation,
                table: 3,
                origin: String::new(),
                digest: String::new(),
                trust: trust.into(),
                modes: vec![],
            }],
            ..Snapshot::default()
        };
        let with = |installed, pending| State {
            schema: SCHEMA,
            installed,
            pending,
            next_incarnation: 9,
            next_table: 4,
        };
        state.save(&with(installed(2, 7, "unsigned"), None)).unwrap();
        assert_eq!(names.find(2, 7), Some(("policy-2".into(), false)));
        // About to come: its events may be seen before the file says that it has.
        state.save(&with(installed(2, 7, "break-glass v1"), Some(installed(3, 8, "unsigned")))).unwrap();
        assert_eq!(names.find(3, 8), Some(("policy-3".into(), false)));
        assert_eq!(names.find(2, 7), Some(("policy-2".into(), true)));
        state.save(&with(installed(3, 8, "unsigned"), None)).unwrap();
        assert_eq!(names.find(3, 8), Some(("policy-3".into(), false)));
        assert_eq!(names.find(2, 7), Some(("policy-2".into(), true)), "its events may still be on the way");
    }

    #[test]
    fn our_own_ancestors() {
        let (parent, above) = process(std::process::id()).unwrap();
        assert!(parent.exe.is_some());
        assert_eq!(above, std::os::unix::process::parent_id());
    }
}
