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
//!
//! A table can also be had for other uses than these phases: [`Table::supported`], [`Table::refusing_policy`] and
//! [`Table::attempt`] are what a stress run is made of.
//!
//! The operations are done by the actor, or by another program that understands the same script
//! ([`Table::performed_by`]), as root or, in the first three phases only, as somebody else ([`Table::as_user`]).

use std::fs;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use enforcer_common::{
    hook::Hook,
    verdict::{Family, Reason},
};

use crate::actor::{self, Op, Performer, Place};
use crate::cgroup::Cgroup;
use crate::enforcer::{Enforcer, SCRATCH, baseline_only};
use crate::events::{Event, Expected};
use crate::policy::Policy;
use crate::report::{Failure, Report};
use crate::servers::Servers;
use crate::stub;

/// Descriptors that rows inherit get numbers from here on, by row: beyond all that a test has open itself, below 4096, which
/// is the most that the kernel allows unless told otherwise. Starting a process takes a pipe to say that it failed, and that
/// must not be overwritten.
const FIRST_INHERITED: RawFd = 3500;

/// What a row needs to find on disk, freshly made before every phase.
#[derive(Clone, Debug)]
enum Fixture {
    File(String),
    Program(String),
    Script {
        path: String,
        interpreter: String,
    },
    Directory(String),
    Symlink {
        path: String,
        target: String,
    },
    /// A program of a few instructions that ends with this status.
    Stub {
        path: String,
        status: u8,
    },
    /// Whatever else the host has to do, with the row's directory.
    Work(fn(&Path)),
    /// A descriptor that the host opens and the performer is started with.
    Inherited(Inherited),
}

/// What a row can inherit, as descriptor `{fd}`.
#[derive(Clone, Debug)]
pub enum Inherited {
    /// A file or directory, open for reading.
    File(String),
    /// A file, open for writing.
    Written(String),
    /// A connection to one of the [`Servers`].
    Connection(&'static str),
    /// A datagram socket that is connected to one of them.
    Datagrams(&'static str),
    /// A pipe, open for reading and writing, that stops this process whenever something is written to it.
    Stopping(String),
}

/// One event that a row must cause.
#[derive(Clone, Debug)]
struct Refusal {
    hook: &'static str,
    family: Family,
    reason: Reason,
    needed: Vec<&'static str>,
    object: String,
    /// Once or more often.
    repeated: bool,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    attack: &'static str,
    op: Vec<String>,
    fixtures: Vec<Fixture>,
    given: Vec<(&'static str, String)>,
    allow: Vec<(&'static str, String)>,
    /// Never empty.
    refusals: Vec<Refusal>,
    optional: bool,
    unlistable: bool,
    at_entry: bool,
    errno: i32,
}

/// Starts a row: what an attacker would call it, and the operation.
///
/// In all texts `{dir}` stands for a directory of the row's own, `{actor}` for the performer's program, `{fd}` for the
/// number of an inherited descriptor, server names (`{tcp4}`) for addresses, and whatever the table adds
/// ([`Table::with_word`]).
#[must_use]
pub fn case(attack: &'static str, op: &[&str]) -> Case {
    Case {
        attack,
        op: op.iter().map(|&word| word.into()).collect(),
        fixtures: Vec::new(),
        given: Vec::new(),
        allow: Vec::new(),
        refusals: vec![Refusal {
            hook: Hook::FileOpen.name(),
            family: Family::File,
            reason: Reason::NoRule,
            needed: Vec::new(),
            object: String::new(),
            repeated: false,
        }],
        optional: false,
        unlistable: false,
        at_entry: false,
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

    /// Needs this program that does nothing but end with `status`.
    #[must_use]
    pub fn stub(mut self, path: &str, status: u8) -> Self {
        self.fixtures.push(Fixture::Stub { path: path.into(), status });
        self
    }

    /// Needs the host to do this first, in the row's directory.
    #[must_use]
    pub fn prepared(mut self, work: fn(&Path)) -> Self {
        self.fixtures.push(Fixture::Work(work));
        self
    }

    /// Is started with this open already, as descriptor `{fd}`. One per row.
    #[must_use]
    pub fn inherits(mut self, what: Inherited) -> Self {
        self.fixtures.push(Fixture::Inherited(what));
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
    pub fn refused(self, hook: Hook, family: Family, reason: Reason) -> Self {
        self.refused_at(hook.name(), family, reason)
    }

    /// As [`Case::refused`], by a hook's name.
    #[must_use]
    pub fn refused_at(mut self, hook: &'static str, family: Family, reason: Reason) -> Self {
        let last = self.last();
        (last.hook, last.family, last.reason) = (hook, family, reason);
        self
    }

    /// What follows is about a further event.
    #[must_use]
    pub fn and_then(mut self) -> Self {
        let mut next = self.last().clone();
        next.needed.clear();
        next.object.clear();
        self.refusals.push(next);
        self
    }

    /// The event names this right.
    #[must_use]
    pub fn needing(mut self, right: &'static str) -> Self {
        self.last().needed.push(right);
        self
    }

    /// The event's object contains these words.
    #[must_use]
    pub fn about(mut self, object: &str) -> Self {
        self.last().object = object.into();
        self
    }

    /// The row tries over and over: there may be many such events.
    #[must_use]
    pub fn repeatedly(mut self) -> Self {
        self.last().repeated = true;
        self
    }

    /// No rule can allow it, so it takes no part in the phase in which everything is allowed.
    #[must_use]
    pub fn unlistable(mut self) -> Self {
        self.unlistable = true;
        self
    }

    /// It is the start of the performer that is refused, so the row has one of its own. It comes after the others.
    #[must_use]
    pub fn at_entry(mut self) -> Self {
        self.at_entry = true;
        self
    }

    fn last(&mut self) -> &mut Refusal {
        self.refusals.last_mut().expect("a row has at least one refusal")
    }

    /// The hook and the reason of its events, in order.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, Family, Reason)> + '_ {
        self.refusals.iter().map(|refusal| (refusal.hook, refusal.family, refusal.reason))
    }

    /// The operation's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.op.first().map_or("", String::as_str)
    }

    /// Whether this is how the row is refused.
    #[must_use]
    pub fn is_refusal(&self, report: &Report) -> bool {
        !report.ok && report.errno == self.errno
    }

    /// Whether one of the rows would be allowed by what the other is given: they cannot share a policy.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        // What lies in a row's own directory is nobody else's.
        let shared = |value: &str| !value.contains("{dir}");
        // A row that no rule allows still says by which privilege it is refused.
        let lacks = |row: &Self, rule: &(&str, String)| {
            let mut refusals = row.refusals.iter().filter(|refusal| refusal.reason == Reason::Privilege);
            rule.0 == "privileges.allow" && refusals.any(|refusal| refusal.object == rule.1)
        };
        let spoils = |given: &Self, wanting: &Self| {
            let mut rules = given.given.iter().filter(|rule| shared(&rule.1));
            rules.any(|rule| wanting.allow.contains(rule) || lacks(wanting, rule))
        };
        spoils(self, other) || spoils(other, self)
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
    name: String,
    cases: Vec<Case>,
    servers: Servers,
    program: String,
    uid: Option<u32>,
    words: Vec<(String, String)>,
    /// Connections to the servers that were made to be inherited.
    given: AtomicU64,
}

impl Table {
    /// A table. The name becomes that of cgroup and policy.
    #[must_use]
    pub fn new(name: &str, mut cases: Vec<Case>) -> Self {
        cases.sort_by_key(|case| case.at_entry);
        Self {
            name: name.into(),
            cases,
            servers: Servers::start(),
            program: actor::program(),
            uid: None,
            words: Vec::new(),
            given: AtomicU64::new(0),
        }
    }

    /// Another program does the operations.
    #[must_use]
    pub fn performed_by(mut self, program: &str) -> Self {
        self.program = program.into();
        self
    }

    /// Somebody else does the operations, who owns the rows' directories.
    #[must_use]
    pub fn as_user(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Replaces `{name}` in all rows' texts.
    #[must_use]
    pub fn with_word(mut self, name: &str, value: &str) -> Self {
        self.words.push((format!("{{{name}}}"), value.into()));
        self
    }

    /// The rows that this kernel can do; each succeeds without a policy.
    ///
    /// # Panics
    /// When one fails that every kernel can do.
    #[must_use]
    pub fn supported(mut self) -> Vec<Case> {
        let cgroup = Cgroup::create(&self.name);
        self.bare(&cgroup);
        self.clean_up();
        self.cases
    }

    /// The rows.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The policy under which every row is refused.
    #[must_use]
    pub fn refusing_policy(&self, cgroup: &Cgroup) -> Policy {
        self.policy(cgroup, false)
    }

    /// Tries every row once, whatever is in force; the reports come in the order of the rows.
    #[must_use]
    pub fn attempt(&self, cgroup: &Cgroup) -> Vec<Report> {
        self.perform(Place::Joining(cgroup), &self.all())
    }

    /// What has reached the servers so far, but for what is given to the performers.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.servers.settled_total() - self.given.load(Ordering::SeqCst)
    }

    /// Only the phase without a policy: shows that the operations are real.
    ///
    /// # Panics
    /// When one fails.
    pub fn check_bare(mut self) {
        let cgroup = Cgroup::create(&self.name);
        self.bare(&cgroup);
        self.clean_up();
    }

    /// Takes every row through every phase. See the module's documentation.
    ///
    /// # Panics
    /// When a row does not behave, with everything that is known about it.
    pub fn check(mut self) {
        let mut enforcer = Enforcer::ready();
        let cgroup = Cgroup::create(&self.name);
        self.bare(&cgroup);
        if baseline_only() || self.cases.is_empty() {
            return;
        }
        let run = Run { table: &self, cgroup: &cgroup };
        run.listed(&mut enforcer);
        run.unlisted(&mut enforcer);
        // Neither who else is there nor what is reported depends on who attacks.
        if self.uid.is_none() {
            run.bystanders(&mut enforcer);
            run.audited(&mut enforcer);
        }
        self.clean_up();
    }

    fn clean_up(&self) {
        unmount_below(&self.directory());
        let _ = fs::remove_dir_all(self.directory());
    }

    fn directory(&self) -> PathBuf {
        Path::new(SCRATCH).join(&self.name)
    }

    /// Phase 1; also drops the rows that this kernel cannot do.
    fn bare(&mut self, cgroup: &Cgroup) {
        let before = self.servers.settled_total();
        let reports = self.perform(Place::Joining(cgroup), &self.all());
        let (mut keep, mut failed) = (Vec::new(), Vec::new());
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
            if !report.ok && !skipped {
                failed.push((case.attack, report));
            }
            keep.push(!skipped);
        }
        assert!(failed.is_empty(), "without a policy, these fail: {failed:#?}");
        let mut keep = keep.into_iter();
        self.cases.retain(|_| keep.next().unwrap_or(true));
        let objects = self.cases.iter().flat_map(|case| &case.refusals).map(|refusal| &refusal.object);
        if objects.into_iter().any(|object| object.contains("{tcp") || object.contains("{udp")) {
            assert!(self.servers.settled_total() > before, "without a policy, nothing reached the servers");
        }
    }

    fn all(&self) -> Vec<usize> {
        (0..self.cases.len()).collect()
    }

    /// Prepares these rows' files and runs their operations: in one process, but for those that may keep it from
    /// starting.
    fn perform(&self, place: Place<'_>, rows: &[usize]) -> Vec<Report> {
        let (alone, together): (Vec<usize>, Vec<usize>) =
            rows.iter().partition(|&&row| self.cases[row].at_entry);
        let mut reports = self.perform_together(place, &together).unwrap_or_else(|error| {
            panic!("{}: {} was not started: {error}", self.name, self.program);
        });
        for row in alone {
            let not_started = |error: io::Error| {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                vec![Report::new(&self.cases[row].op, Err(Failure { step: "start".into(), errno }))]
            };
            reports.extend(self.perform_together(place, &[row]).unwrap_or_else(not_started));
        }
        reports
    }

    fn perform_together(&self, place: Place<'_>, rows: &[usize]) -> io::Result<Vec<Report>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ops: Vec<Op> = rows.iter().map(|&row| self.prepare(row)).collect();
        let inherited = rows.iter().filter_map(|&row| self.inherited(row)).collect();
        let performer = Performer { place, program: &self.program, uid: self.uid, inherited };
        actor::run_as(performer, &ops)
    }

    /// What the row's performer inherits, opened now.
    fn inherited(&self, row: usize) -> Option<(OwnedFd, RawFd)> {
        let what = self.cases[row].fixtures.iter().find_map(|fixture| match fixture {
            Fixture::Inherited(what) => Some(what),
            _ => None,
        })?;
        let descriptor: OwnedFd = match what {
            Inherited::File(path) => {
                fs::File::open(self.fill_in(row, path)).expect("opening what is inherited").into()
            }
            Inherited::Written(path) => fs::OpenOptions::new()
                .append(true)
                .open(self.fill_in(row, path))
                .expect("opening what is inherited")
                .into(),
            Inherited::Connection(server) => {
                self.given.fetch_add(1, Ordering::SeqCst);
                TcpStream::connect(self.servers.address(server)).expect("connecting to our own server").into()
            }
            Inherited::Datagrams(server) => {
                let address = self.servers.address(server);
                let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
                let socket = UdpSocket::bind(any).expect("binding a datagram socket");
                socket.connect(address).expect("connecting to our own server");
                socket.into()
            }
            Inherited::Stopping(process) => {
                let process = self.fill_in(row, process).parse().expect("the number of a process");
                stopping_pipe(process).expect("a pipe that signals")
            }
        };
        Some((descriptor, self.inherited_number(row)))
    }

    fn inherited_number(&self, row: usize) -> RawFd {
        FIRST_INHERITED + RawFd::try_from(row).expect("a table has few rows")
    }

    fn fill_in(&self, row: usize, text: &str) -> String {
        let directory = self.directory().join(row.to_string());
        let text = text
            .replace("{dir}", &directory.to_string_lossy())
            .replace("{actor}", &self.program)
            .replace("{fd}", &self.inherited_number(row).to_string());
        let text = self.words.iter().fold(text, |text, (name, value)| text.replace(name, value));
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
                Fixture::Program(path) => drop(copy_of(&self.program, Path::new(&self.fill_in(row, path)))),
                Fixture::Script { path, interpreter } => {
                    let text = format!("#!{} true\n", self.fill_in(row, interpreter));
                    make_executable(Path::new(&self.fill_in(row, path)), text.as_bytes());
                }
                Fixture::Symlink { path, target } => {
                    std::os::unix::fs::symlink(self.fill_in(row, target), self.fill_in(row, path))
                        .expect("creating a symbolic link");
                }
                Fixture::Directory(path) => {
                    fs::create_dir_all(self.fill_in(row, path)).expect("creating a directory");
                }
                Fixture::Stub { path, status } => {
                    make_executable(Path::new(&self.fill_in(row, path)), &stub::exiting(*status));
                }
                Fixture::Work(work) => work(&directory),
                Fixture::Inherited(_) => {}
            }
        }
        if let Some(uid) = self.uid {
            give_to(&directory, uid);
        }
        case.op.iter().map(|word| self.fill_in(row, word)).collect()
    }

    /// The policy with everything given, and what `listed` says in addition.
    fn policy(&self, cgroup: &Cgroup, listed: bool) -> Policy {
        let mut policy = Policy::of(&self.name, cgroup).allow("exec.allow", &self.program);
        for (row, case) in self.cases.iter().enumerate() {
            let rules = case.given.iter().chain(case.allow.iter().filter(|_| listed));
            for (key, value) in rules {
                policy = policy.allow(key, &self.fill_in(row, value));
            }
        }
        policy
    }

    fn expected(&self, row: usize, refusal: &Refusal) -> Expected {
        Expected {
            hook: refusal.hook,
            family: refusal.family,
            reason: refusal.reason,
            needed: refusal.needed.iter().map(|&right| right.into()).collect(),
            // Addresses appear in events as address and port apart.
            object: spread_addresses(&self.fill_in(row, &refusal.object)),
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
        let rows: Vec<usize> =
            self.table.all().into_iter().filter(|&row| !self.table.cases[row].unlistable).collect();
        let reports = self.table.perform(Place::Joining(self.cgroup), &rows);
        let events = enforcer.events_since(mark);
        let failed: Vec<_> = reports.iter().filter(|report| !report.ok).collect();
        assert!(failed.is_empty(), "listed, but refused: {failed:#?}\n{}", evidence(&reports, &events));
        assert!(events.is_empty(), "listed, but reported\n{}", evidence(&reports, &events));
    }

    fn unlisted(&self, enforcer: &mut Enforcer) {
        let mark = enforcer.mark();
        enforcer.apply(&[&self.table.policy(self.cgroup, false)]);
        let arrived = self.table.arrived();
        let reports = self.table.perform(Place::Joining(self.cgroup), &self.table.all());
        let events = enforcer.events_since(mark);
        let mut wrong = Vec::new();
        for (row, report) in reports.iter().enumerate() {
            let case = &self.table.cases[row];
            if !case.is_refusal(report) {
                wrong.push(format!("{}: not refused with {}: {report:?}", case.attack, name(case.errno)));
            }
        }
        let got = self.table.arrived();
        if got != arrived {
            wrong.push(format!(
                "{} connections, datagrams and bytes reached the servers",
                got.abs_diff(arrived)
            ));
        }
        wrong.extend(self.match_events(&events));
        assert!(wrong.is_empty(), "unlisted:\n  {}\n{}", wrong.join("\n  "), evidence(&reports, &events));
    }

    /// Exactly the events that the rows expect, in the rows' order.
    fn match_events(&self, events: &[Event]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut rest = events.iter().peekable();
        for (row, case) in self.table.cases.iter().enumerate() {
            for refusal in &case.refusals {
                let expected = self.table.expected(row, refusal);
                let Some(event) = rest.next() else {
                    wrong.push(format!("{}: no event", case.attack));
                    continue;
                };
                let differences = self.differences(&expected, event);
                wrong.extend(
                    differences
                        .into_iter()
                        .map(|difference| format!("{} ({row}): event's {difference}", case.attack)),
                );
                while refusal.repeated
                    && rest.next_if(|event| self.differences(&expected, event).is_empty()).is_some()
                {
                }
            }
        }
        wrong.extend(rest.map(|event| format!("one event too many: {event}")));
        wrong
    }

    fn differences(&self, expected: &Expected, event: &Event) -> Vec<String> {
        let mut differences = expected.differences(event, "denied");
        // What no rule can allow has nothing to suggest.
        if event.suggestion().is_empty() && expected.reason != Reason::Unreachable {
            differences.push("no suggestion".into());
        }
        if event.text("policy") != self.table.name {
            differences.push(format!("policy is {:?}", event.text("policy")));
        }
        differences
    }

    fn bystanders(&self, enforcer: &mut Enforcer) {
        let neighbour = Cgroup::create(&format!("{}-neighbour", self.table.name));
        for (who, place) in [("neighbour", Place::Joining(&neighbour)), ("host", Place::Host)] {
            let mark = enforcer.mark();
            let reports = self.table.perform(place, &self.table.all());
            let events = enforcer.events_since(mark);
            let failed: Vec<_> = self.rows(&reports).filter(|(_, report)| !report.ok).collect();
            assert!(failed.is_empty(), "{who} is refused: {failed:#?}\n{}", evidence(&reports, &events));
            assert!(events.is_empty(), "{who} is reported\n{}", evidence(&reports, &events));
        }
    }

    fn audited(&self, enforcer: &mut Enforcer) {
        let mark = enforcer.mark();
        enforcer.apply(&[&self.table.policy(self.cgroup, false).audit()]);
        let reports = self.table.perform(Place::Joining(self.cgroup), &self.table.all());
        let events = enforcer.events_since(mark);
        let failed: Vec<_> = self.rows(&reports).filter(|(_, report)| !report.ok).collect();
        assert!(failed.is_empty(), "audited, but refused: {failed:#?}\n{}", evidence(&reports, &events));
        for (row, case) in self.table.cases.iter().enumerate() {
            for refusal in &case.refusals {
                let expected = self.table.expected(row, refusal);
                // What passes may go on to do more that would be refused: look for the row's own event among all.
                let found = events.iter().any(|event| expected.differences(event, "audited").is_empty());
                assert!(found, "{}: no audit event\n{}", case.attack, evidence(&reports, &events));
            }
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
    copy_of(&actor::program(), path)
}

fn copy_of(program: &str, path: &Path) -> PathBuf {
    make_executable(path, &fs::read(program).expect("reading a program"));
    path.into()
}

/// A pipe, open for reading and writing, that stops a process whenever something is written to it.
///
/// # Errors
/// Those of `pipe`, `open` and `fcntl`.
pub fn stopping_pipe(process: i32) -> io::Result<OwnedFd> {
    /// Not in `libc`.
    const F_SETSIG: i32 = 10;
    let (read, _write) = nix::unistd::pipe()?;
    // One descriptor for both ends: what is written to it is there to be read from it, of which its owner is told.
    let link = format!("/proc/self/fd/{}", read.as_raw_fd());
    let pipe: OwnedFd = fs::OpenOptions::new().read(true).write(true).open(link)?.into();
    for (command, argument) in [
        (libc::F_SETOWN, process),
        (F_SETSIG, libc::SIGSTOP),
        (libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK),
    ] {
        // SAFETY: none of the commands takes a pointer.
        if unsafe { libc::fcntl(pipe.as_raw_fd(), command, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(pipe)
}

/// Makes somebody the owner of a directory and of all in it.
fn give_to(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).expect("giving a file away");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("listing a directory") {
            give_to(&entry.expect("reading a directory").path(), uid);
        }
    }
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
    use super::{Family, Hook, Reason, case, spread_addresses};

    #[test]
    fn rows_keep_apart_from_those_that_are_given_what_they_lack() {
        let given = case("a", &["op"]).given("privileges.allow", "ptrace");
        let allowed = case("b", &["op"]).allowed_by("privileges.allow", "ptrace");
        let refused = |privilege| {
            let row = case("c", &["op"]).unlistable().about(privilege);
            row.refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
        };
        for other in [allowed, refused("ptrace")] {
            assert!(given.collides_with(&other) && other.collides_with(&given));
        }
        assert!(!given.collides_with(&refused("mount")));
    }

    #[test]
    fn addresses_are_spread() {
        assert_eq!(spread_addresses("127.0.0.1:80 x"), "127.0.0.1 80 x");
        assert_eq!(spread_addresses("[::1]:80"), "::1 80");
        assert_eq!(spread_addresses("/a/b"), "/a/b");
    }
}
