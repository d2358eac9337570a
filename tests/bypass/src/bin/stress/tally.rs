//! What was tried, and what came of it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enforcer_vm_tests::enforcer::Enforcer;
use enforcer_vm_tests::events::Mark;
use enforcer_vm_tests::report::Report;
use enforcer_vm_tests::scenario::{Case, name};
use serde_json::{Value, json};

use crate::attackers::Catalogue;

/// Violations are for reading, and the first ones tell most.
const SHOWN: usize = 50;

/// All figures of a run.
pub(crate) struct Tally(Mutex<Figures>);

#[derive(Default)]
struct Figures {
    attacks: BTreeMap<String, Attempts>,
    rounds: u64,
    swaps: u64,
    events: u64,
    lost: u64,
    violations: Vec<String>,
    /// How many there were, shown or not.
    violated: u64,
}

/// How one attack went.
#[derive(Default)]
struct Attempts {
    refused: u64,
    succeeded: u64,
    /// By error: neither a success nor the refusal that there should be.
    otherwise: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new(catalogue: &Catalogue) -> Self {
        let attacks = catalogue.names().into_iter().map(|name| (name.to_owned(), Attempts::default()));
        Self(Mutex::new(Figures { attacks: attacks.collect(), ..Figures::default() }))
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a table's attempts.
    pub(crate) fn attempts(&self, cases: &[Case], reports: &[Report]) {
        let mut figures = self.figures();
        for (case, report) in cases.iter().zip(reports) {
            let attempts = figures.attacks.entry(case.name().to_owned()).or_default();
            if case.is_refusal(report) {
                attempts.refused += 1;
                continue;
            }
            if report.ok {
                attempts.succeeded += 1;
            } else {
                *attempts
                    .otherwise
                    .entry(format!("{} at {}", name(report.errno), report.step))
                    .or_default() += 1;
            }
            figures.violation(format!("not refused: {report:?}"));
        }
    }

    /// Counts one attacker's way through the catalogue.
    pub(crate) fn round(&self) {
        self.figures().rounds += 1;
    }

    /// Counts swaps.
    pub(crate) fn swapped(&self, count: usize) {
        self.figures().swaps += count as u64;
    }

    /// Counts what must not be.
    pub(crate) fn violations(&self, violations: impl IntoIterator<Item = String>) {
        let mut figures = self.figures();
        for violation in violations {
            figures.violation(violation);
        }
    }

    /// Looks through the event log: none about the service, none that let something pass, none unaccounted for.
    pub(crate) fn events(&self, enforcer: &mut Enforcer, since: Mark, service: &str) {
        let events = enforcer.events_since(since);
        let lost = enforcer.log().lost_since(since);
        let mut figures = self.figures();
        (figures.events, figures.lost) = (events.len() as u64, lost);
        for event in &events {
            if event.text("policy") == service || event.text("verdict") != "denied" {
                figures.violation(format!("an event that should not be: {event}"));
            }
        }
        let refused: u64 = figures.attacks.values().map(|attempts| attempts.refused).sum();
        if figures.events + lost < refused {
            figures
                .violation(format!("{refused} refusals, but {} events and {lost} lost ones", events.len()));
        }
    }

    /// One line.
    pub(crate) fn progress(&self) -> String {
        let figures = self.figures();
        let sum = |what: fn(&Attempts) -> u64| figures.attacks.values().map(what).sum::<u64>();
        format!(
            "{} attempts, {} refused, {} succeeded; {} rounds, {} swaps, {} violations",
            sum(Attempts::all),
            sum(|attempts| attempts.refused),
            sum(|attempts| attempts.succeeded),
            figures.rounds,
            figures.swaps,
            figures.violated
        )
    }

    /// Everything, for a file.
    pub(crate) fn report(
        &self,
        catalogue: &Catalogue,
        took: Duration,
        attackers: usize,
        service: &[String],
    ) -> Value {
        let figures = self.figures();
        let attacks: Vec<_> = figures
            .attacks
            .iter()
            .map(|(name, attempts)| {
                json!({
                    "attack": name,
                    "attempts": attempts.all(),
                    "refused": attempts.refused,
                    "succeeded": attempts.succeeded,
                    "otherwise": attempts.otherwise,
                })
            })
            .collect();
        let excluded: Vec<_> =
            catalogue.excluded.iter().map(|(name, why)| json!({ "attack": name, "why": why })).collect();
        json!({
            "kernel": std::env::var("ENFORCER_VM_KERNEL").unwrap_or_default(),
            "seconds": took.as_secs(),
            "attackers": attackers,
            "rounds": figures.rounds,
            "swaps": figures.swaps,
            "events": figures.events,
            "lost_events": figures.lost,
            "service": service,
            "attacks": attacks,
            "excluded": excluded,
            "violated": figures.violated,
            "violations": figures.violations,
        })
    }

    /// Prints the summary. Success if nothing was violated and every attack was tried.
    pub(crate) fn conclude(&self, catalogue: &Catalogue, service: &[String]) -> ExitCode {
        let mut figures = self.figures();
        let untried: Vec<String> = figures
            .attacks
            .iter()
            .filter(|(_, attempts)| attempts.all() == 0)
            .map(|(name, _)| format!("never tried: {name}"))
            .collect();
        for violation in untried {
            figures.violation(violation);
        }
        println!(
            "\n{:36} {:>9} {:>9} {:>9} {:>9}",
            "attack", "attempts", "refused", "succeeded", "otherwise"
        );
        for (name, attempts) in &figures.attacks {
            let otherwise: u64 = attempts.otherwise.values().sum();
            println!(
                "{name:36} {:>9} {:>9} {:>9} {otherwise:>9}",
                attempts.all(),
                attempts.refused,
                attempts.succeeded
            );
        }
        for (name, why) in &catalogue.excluded {
            println!("left out: {name}: {why}");
        }
        for work in service {
            println!("the service: {work}");
        }
        println!("{} events, {} lost", figures.events, figures.lost);
        for violation in &figures.violations {
            println!("VIOLATION: {violation}");
        }
        let violated = figures.violated;
        drop(figures);
        println!("{}", self.progress());
        if violated == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Figures {
    fn violation(&mut self, violation: String) {
        self.violated += 1;
        if self.violations.len() < SHOWN {
            self.violations.push(violation);
        }
    }
}

impl Attempts {
    fn all(&self) -> u64 {
        self.refused + self.succeeded + self.otherwise.values().sum::<u64>()
    }
}
