//! Tables of attacks: each row is one operation, tried under every kind of policy.
//!
//! [`Table::check`] takes all rows through the same phases:
//!
//! 1. *bare*: no policy. Every operation succeeds, or the row proves nothing.
//! 2. *listed*: a policy that allows each operation. Every one succeeds, and there is no event.
//! 3. *unlisted*: a policy that allows only what rows have as their `given`. Every operation is refused, with exactly
//!    one event each that says what the row expects, and nothing arrives at the servers.
//! 4. *neighbour* and *host*: the same policy in force. A cgroup next door and the host succeed, with no event.
//! 5. *audited*: the policy of phase 3 in audit mode. Every operation succeeds, and each has an event.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use enforcer_common::{
    hook::Hook,
    verdict::{Family, Reason},
};

use crate::actor::{self, Op, Place};
use crate::cgroup::Cgroup;
use crate::enforcer::{Enforcer, SCRATCH, baseline_only};
use crate::events::{Event, Expected};
use crate::policy::Policy;
use crate::report::Report;
use crate::servers::Servers;

/// What a row needs to find on disk, freshly made before every phase.
#[derive(Clone, Debug)]
enum Fixture {
    File(String),
    Program(String),
    Script { path: String, interpreter: String },
    Directory(String),
    Symlink { path: String, target: String },
}

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    attack: &'static str,
    op: Vec<String>,
    fixtures: Vec<Fixture>,
    given: Vec<(&'static str, String)>,
    allow: Vec<(&'static str, String)>,
    hook: Hook,
    family: Family,
    reason: Reason,
    needed: Vec<&'static str>,
    object: String,
    optional: bool,
    errno: i32,
}

/// Starts a row: what an attacker would call it, and the operation.
///
/// In all texts `{dir}` stands for a directory of the row's own; server names (`{tcp4}`) for addresses.
#[must_use]
pub fn case(attack: &'static str, op: &[&str]) -> Case {
    Case {
        attack,
        op: op.iter().map(|&word| word.into()).collect(),
        fixtures: Vec::new(),
        given: Vec::new(),
        allow: Vec::new(),
        hook: Hook::FileOpen,
        family: Family::File,
        reason: Reason::NoRule,
        needed: Vec::new(),
        object: String::new(),
        optional: false,
        errno: libc::EPERM,
    }
}

impl Case {
    /// Needs this file.
    #[must_use]
    pub fn file(mut self, path: &str) -> Self {
        self.fixtures.push(Fixture::File(path.into()));
        self
    }

    /// Needs this program: a copy of the actor.
    #[must_use]
    pub fn program(mut self, path: &str) -> Self {
        self.fixtures.push(Fixture::Program(path.into()));
        self
    }

    /// Needs this script with this interpreter.
    #[must_use]
    pub fn script(mut self, path: &str, interpreter: &str) -> Self {
        self.fixtures.push(Fixture::Script { path: path.into(), interpreter: interpreter.into() });
        self
    }

    /// Needs this symbolic link.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.fixtures.push(Fixture::Symlink { path: path.into(), target: target.into() });
        self
    }

    /// Needs this directory.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.fixtures.push(Fixture::Directory(path.into()));
        self
    }

    /// Allowed throughout: not what the row is about.
    #[must_use]
    pub fn given(mut self, key: &'static str, value: &str) -> Self {
        self.given.push((key, value.into()));
        self
    }

    /// The rule that allows the operation.
    #[must_use]
    pub fn allowed_by(mut self, key: &'static str, value: &str) -> Self {
        self.allow.push((key, value.into()));
        self
    }

    /// Without that rule: refused here, for this reason.
    #[must_use]
    pub fn refused(mut self, hook: Hook, family: Family, reason: Reason) -> Self {
        (self.hook, self.family, self.reason) = (hook, family, reason);
        self
    }

    /// The event names this right.
    #[must_use]
    pub fn needing(mut self, right: &'static str) -> Self {
        self.needed.push(right);
        self
    }

    /// The event's object contains these words.
    #[must_use]
    pub fn about(mut self, object: &str) -> Self {
        self.object = object.into();
        self
    }

    /// The refusal has this error number instead of `EPERM`.
    #[must_use]
    pub fn errno(mut self, errno: i32) -> Self {
        self.errno = errno;
        self
    }

    /// Not every kernel can do this at all; where the bare operation fails, the row is skipped, and says so.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// Rows that share a policy, and the world they need.
pub struct Table {
    name: &'static str,
    cases: Vec<Case>,
    servers: Servers,
}

impl Table {
    /// A table. The name becomes that of cgroup and policy.
    #[must_use]
    pub fn new(name: &'static str, cases: Vec<Case>) -> Self {
        Self { name, cases, servers: Servers::start() }
    }

    /// Takes every row through every phase. See the module's documentation.
    ///
    /// # Panics
    /// When a row does not behave, with everything that is known about it.
    pub fn check(mut self) {
        let mut enforcer = Enforcer::ready();
        let cgroup = Cgroup::create(self.name);
        self.bare(&cgroup);
        if baseline_only() {
            return;
        }
        let run = Run { table: &self, cgroup: &cgroup };
        run.listed(&mut enforcer);
        run.unlisted(&mut enforcer);
        run.bystanders(&mut enforcer);
        run.audited(&mut enforcer);
        unmount_below(&self.directory());
        let _ = fs::remove_dir_all(self.directory());
    }

    fn directory(&self) -> PathBuf {
        Path::new(SCRATCH).join(self.name)
    }

    /// Phase 1; also drops the rows that this kernel cannot do.
    fn bare(&mut self, cgroup: &Cgroup) {
        let before = self.servers.settled_total();
        let reports = self.perform(Place::Joining(cgroup));
        let mut keep = Vec::new();
        for (case, report) in self.cases.iter().zip(&reports) {
            let skipped = !report.ok && case.optional;
            if skipped {
                println!(
                    "skipped on this kernel: {} ({} fails with {})",
                    case.attack,
                    report.step,
                    name(report.errno)
                );
            }
            assert!(report.ok || skipped, "without a policy, {:?} fails: {report:?}", case.attack);
            keep.push(!skipped);
        }
        let mut keep = keep.into_iter();
        self.cases.retain(|_| keep.next().unwrap_or(true));
        if self.cases.iter().any(|case| case.object.contains("{tcp") || case.object.contains("{udp")) {
            assert!(self.servers.settled_total() > before, "without a policy, nothing reached the servers");
        }
    }

    /// Prepares every row's files and runs all operations in one actor.
    fn perform(&self, place: Place<'_>) -> Vec<Report> {
        let ops: Vec<Op> = (0..self.cases.len()).map(|row| self.prepare(row)).collect();
        actor::run(place, &ops)
            .unwrap_or_else(|error| panic!("{}: the actor was not started: {error}", self.name))
    }

    fn fill_in(&self, row: usize, text: &str) -> String {
        let directory = self.directory().join(row.to_string());
        let text = text.replace("{dir}", &directory.to_string_lossy()).replace("{actor}", &actor::program());
        self.servers.fill_in(&text)
    }

    /// Makes the row's files anew and returns its operation.
    fn prepare(&self, row: usize) -> Op {
        let case = &self.cases[row];
        let directory = self.directory().join(row.to_string());
        unmount_below(&directory);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("creating a row's directory");
        for fixture in &case.fixtures {
            match fixture {
                Fixture::File(path) => fs::write(self.fill_in(row, path), "secret").expect("creating a file"),
                Fixture::Program(path) => drop(copy_of_actor(Path::new(&self.fill_in(row, path)))),
                Fixture::Script { path, interpreter } => {
                    let text = format!("#!{} true\n", self.fill_in(row, interpreter));
                    make_executable(Path::new(&self.fill_in(row, path)), text.as_bytes());
                }
                Fixture::Symlink { path, target } => {
                    std::os::unix::fs::symlink(self.fill_in(row, target), self.fill_in(row, path))
                        .expect("creating a symbolic link");
                }
                Fixture::Directory(path) => {
                    fs::create_dir_all(self.fill_in(row, path)).expect("creating a directory")
                }
            }
        }
        case.op.iter().map(|word| self.fill_in(row, word)).collect()
    }

    /// The policy with everything given, and what `listed` says in addition.
    fn policy(&self, cgroup: &Cgroup, listed: bool) -> Policy {
        let mut policy = Policy::of(self.name, cgroup);
        for (row, case) in self.cases.iter().enumerate() {
            let rules = case.given.iter().chain(case.allow.iter().filter(|_| listed));
            for (key, value) in rules {
                policy = policy.allow(key, &self.fill_in(row, value));
            }
        }
        policy
    }

    fn expected(&self, row: usize) -> Expected {
        let case = &self.cases[row];
        Expected {
            hook: case.hook,
            family: case.family,
            reason: case.reason,
            needed: case.needed.iter().map(|&right| right.into()).collect(),
            // Addresses appear in events as address and port apart.
            object: spread_addresses(&self.fill_in(row, &case.object)),
        }
    }
}

/// Phases 2 to 5.
struct Run<'a> {
    table: &'a Table,
    cgroup: &'a Cgroup,
}

impl Run<'_> {
    fn listed(&self, enforcer: &mut Enforcer) {
        let mark = enforcer.mark();
        enforcer.apply(&[&self.table.policy(self.cgroup, true)]);
        let reports = self.table.perform(Place::Joining(self.cgroup));
        let events = enforcer.events_since(mark);
        let failed: Vec<_> = self.rows(&reports).filter(|(_, report)| !report.ok).collect();
        assert!(failed.is_empty(), "listed, but refused: {failed:#?}\n{}", evidence(&reports, &events));
        assert!(events.is_empty(), "listed, but reported\n{}", evidence(&reports, &events));
    }

    fn unlisted(&self, enforcer: &mut Enforcer) {
        let mark = enforcer.mark();
        enforcer.apply(&[&self.table.policy(self.cgroup, false)]);
        let arrived = self.table.servers.settled_total();
        let reports = self.table.perform(Place::Joining(self.cgroup));
        let events = enforcer.events_since(mark);
        let mut wrong = Vec::new();
        for (row, report) in reports.iter().enumerate() {
            let case = &self.table.cases[row];
            if report.ok || report.errno != case.errno {
                wrong.push(format!("{}: not refused with {}: {report:?}", case.attack, name(case.errno)));
            }
        }
        let got = self.table.servers.settled_total();
        if got != arrived {
            wrong.push(format!("{} connections, datagrams and bytes reached the servers", got - arrived));
        }
        wrong.extend(self.match_events(&events));
        assert!(wrong.is_empty(), "unlisted:\n  {}\n{}", wrong.join("\n  "), evidence(&reports, &events));
    }

    /// Exactly one event per row, in the rows' order.
    fn match_events(&self, events: &[Event]) -> Vec<String> {
        let mut wrong = Vec::new();
        if events.len() != self.table.cases.len() {
            wrong.push(format!("{} events for {} refusals", events.len(), self.table.cases.len()));
        }
        for (row, event) in events.iter().enumerate().take(self.table.cases.len()) {
            let case = &self.table.cases[row];
            let mut differences = self.table.expected(row).differences(event, "denied");
            if event.suggestion().is_empty() {
                differences.push("no suggestion".into());
            }
            if event.text("policy") != self.table.name {
                differences.push(format!("policy is {:?}", event.text("policy")));
            }
            wrong.extend(
                differences.into_iter().map(|difference| format!("{}: event's {difference}", case.attack)),
            );
        }
        wrong
    }

    fn bystanders(&self, enforcer: &mut Enforcer) {
        let neighbour = Cgroup::create(&format!("{}-neighbour", self.table.name));
        for (who, place) in [("neighbour", Place::Joining(&neighbour)), ("host", Place::Host)] {
            let mark = enforcer.mark();
            let reports = self.table.perform(place);
            let events = enforcer.events_since(mark);
            let failed: Vec<_> = self.rows(&reports).filter(|(_, report)| !report.ok).collect();
            assert!(failed.is_empty(), "{who} is refused: {failed:#?}\n{}", evidence(&reports, &events));
            assert!(events.is_empty(), "{who} is reported\n{}", evidence(&reports, &events));
        }
    }

    fn audited(&self, enforcer: &mut Enforcer) {
        let mark = enforcer.mark();
        enforcer.apply(&[&self.table.policy(self.cgroup, false).audit()]);
        let reports = self.table.perform(Place::Joining(self.cgroup));
        let events = enforcer.events_since(mark);
        let failed: Vec<_> = self.rows(&reports).filter(|(_, report)| !report.ok).collect();
        assert!(failed.is_empty(), "audited, but refused: {failed:#?}\n{}", evidence(&reports, &events));
        for (row, case) in self.table.cases.iter().enumerate() {
            let expected = self.table.expected(row);
            // What passes may go on to do more that would be refused: look for the row's own event among all.
            let found = events.iter().any(|event| expected.differences(event, "audited").is_empty());
            assert!(found, "{}: no audit event\n{}", case.attack, evidence(&reports, &events));
        }
        let not_audited: Vec<_> = events.iter().filter(|event| event.text("verdict") != "audited").collect();
        assert!(not_audited.is_empty(), "in audit mode: {not_audited:#?}");
    }

    fn rows<'b>(&'b self, reports: &'b [Report]) -> impl Iterator<Item = (&'static str, &'b Report)> {
        self.table.cases.iter().map(|case| case.attack).zip(reports)
    }
}

/// What happened, for the reader of a failure.
#[must_use]
pub fn evidence(reports: &[Report], events: &[Event]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("--- reports\n");
    for report in reports {
        let result =
            if report.ok { "ok".into() } else { format!("{} at {}", name(report.errno), report.step) };
        let _ = writeln!(text, "{}: {result} {}", report.op.join(" "), report.detail);
    }
    text.push_str("--- events\n");
    for event in events {
        let _ = writeln!(text, "{event}");
    }
    text
}

/// The name of an error number.
#[must_use]
pub fn name(errno: i32) -> String {
    format!("{:?}", nix::Error::from_raw(errno))
}

/// Copies the actor to `path`, as "another program".
///
/// # Panics
/// When that fails.
pub fn copy_of_actor(path: &Path) -> PathBuf {
    let program = fs::read(actor::program()).expect("reading the actor");
    make_executable(path, &program);
    path.into()
}

/// Creates an executable file.
///
/// # Panics
/// When that fails.
pub fn make_executable(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("writing an executable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("making it executable");
}

/// Takes away what phases in which mounting was allowed have mounted.
fn unmount_below(directory: &Path) {
    let below = format!("{}/", directory.display());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for place in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if place.starts_with(&below) {
            let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// `127.0.0.1:80` → `127.0.0.1 80`, anything else unchanged.
fn spread_addresses(text: &str) -> String {
    text.split_whitespace()
        .map(|word| match word.parse::<std::net::SocketAddr>() {
            Ok(address) => format!("{} {}", address.ip(), address.port()),
            Err(_) => word.into(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::spread_addresses;

    #[test]
    fn addresses_are_spread() {
        assert_eq!(spread_addresses("127.0.0.1:80 x"), "127.0.0.1 80 x");
        assert_eq!(spread_addresses("[::1]:80"), "::1 80");
        assert_eq!(spread_addresses("/a/b"), "/a/b");
    }
}
