//! Services under the policies of `policy-examples/`: what is refused to them, and the holes of those that were built
//! with holes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use enforcer_common::verdict::Family;

use crate::enforcer::{Enforcer, SCRATCH};
use crate::events::{Event, Mark};
use crate::http;
use crate::servers::{self, Count};

/// Puts a policy where it can be applied from.
///
/// # Panics
/// When the disk is full.
#[must_use]
pub fn policy_file(name: &str, text: &str) -> PathBuf {
    let file = Path::new(SCRATCH).join(format!("{name}.toml"));
    fs::create_dir_all(SCRATCH).expect("creating the scratch directory");
    fs::write(&file, text).expect("writing a policy");
    file
}

/// Nothing has been refused since the mark.
///
/// # Panics
/// With every event, when something has.
pub fn assert_no_denials(enforcer: &mut Enforcer, since: Mark, when: &str) {
    let events = enforcer.events_since(since);
    assert!(events.is_empty(), "false denials {when}:\n{}", lines(&events));
}

/// What has been refused since the mark, all of it to this unit: a family and text that the object contains, in order.
///
/// # Panics
/// With every event, when it was something else.
pub fn assert_refused(enforcer: &mut Enforcer, since: Mark, unit: &str, expected: &[(Family, &str)]) {
    let events = enforcer.events_since(since);
    let same = |event: &Event, (family, object): &(Family, &str)| {
        event.text("verdict") == "denied"
            && event.text("unit") == unit
            && event.text("family") == family.name()
            && event.about().contains(object)
    };
    let all = events.len() == expected.len() && events.iter().zip(expected).all(|(e, x)| same(e, x));
    assert!(all, "refused to {unit}, please: {expected:?}\n{}", lines(&events));
}

/// Events for the reader of a failure.
#[must_use]
pub fn lines(events: &[Event]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// A web service that runs commands (`/run`), reads files (`/read`) and calls addresses (`/call`) that a request names.
pub struct Holes {
    /// Where it listens.
    server: &'static str,
    /// What starts first when it runs a command: the shell, or what the service starts it with.
    starter: &'static str,
    secret: String,
    attacker: SocketAddr,
    calls: Count,
}

impl Holes {
    /// The holes of the service at this address.
    ///
    /// # Panics
    /// When loopback is not up or the disk is full.
    #[must_use]
    pub fn of(server: &'static str, starter: &'static str) -> Self {
        let secret = format!("{SCRATCH}/secret-of-another");
        fs::create_dir_all(SCRATCH).expect("creating the scratch directory");
        fs::write(&secret, "the crown jewels").expect("writing a secret");
        let (attacker, calls) = servers::tcp("127.0.0.1:0");
        Self { server, starter, secret, attacker, calls }
    }

    /// Asks one page of the service.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn ask(&self, page: &str, argument: &str) -> String {
        let path = format!("{page}?{}", http::escaped(argument));
        http::get(self.server, &path).unwrap_or_else(|error| panic!("{page}: {error}")).body
    }

    /// Without a policy the attacker has a shell, the secret and a connection.
    ///
    /// # Panics
    /// When a hole is closed.
    pub fn assert_open(&self) {
        let run = self.ask("/run", "echo in-$((6 * 7))");
        assert!(run.contains("in-42"), "no shell without a policy: {run}");
        let read = self.ask("/read", &self.secret);
        assert!(read.contains("crown jewels"), "nothing read without a policy: {read}");
        let call = self.ask("/call", &self.attacker.to_string());
        assert!(call.contains("connected"), "no connection without a policy: {call}");
        crate::wait::until("the service's call", crate::wait::SOON, || {
            (self.calls.arrivals() == 1).then_some(())
        });
    }

    /// Under its policy the attacker has none of them, and each attempt is reported.
    ///
    /// # Panics
    /// When something got through, or was not reported.
    pub fn assert_closed(&self, enforcer: &mut Enforcer, unit: &str) {
        let mark = enforcer.mark();
        let before = self.calls.arrivals();
        let answers = [
            self.ask("/run", "echo in-$((6 * 7))"),
            self.ask("/read", &self.secret),
            self.ask("/call", &self.attacker.to_string()),
        ];
        let through = |answer: &String| {
            ["in-42", "crown jewels", "connected"].iter().any(|prize| answer.contains(prize))
        };
        assert!(!answers.iter().any(through), "the attacker got through: {answers:?}");
        let port = self.attacker.port().to_string();
        assert_refused(
            enforcer,
            mark,
            unit,
            &[
                (Family::Exec, self.starter),
                (Family::File, self.secret.as_str()),
                (Family::Network, port.as_str()),
            ],
        );
        assert_eq!(self.calls.arrivals(), before, "a connection arrived");
    }
}
