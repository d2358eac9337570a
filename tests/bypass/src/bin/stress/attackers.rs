//! Who attacks, and with what.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use enforcer_bypass_tests::attacks::GROUPS;
use enforcer_bypass_tests::world::{World, apart, exists};
use enforcer_vm_tests::actor::{Actor, Performer, Place, installed, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::{Case, Table};

use crate::tally::Tally;

/// Attacks that cannot be tried by several at a time, and why. They are left to suite `bypass`.
///
/// Refused, an attack changes nothing, so hardly one is here.
const EXCLUSIVE: &[(&str, &str)] = &[
    (
        "request-module",
        "what tells whether it succeeded is the kernel's only `modprobe`, made anew for each attempt",
    ),
    ("request-binary-format", "as request-module"),
    ("file-system-commands", "`mount -o loop` of several at a time takes the same device"),
    ("message-queue", "whoever makes the queue anew takes it away from the others"),
];

/// The attacks of this kernel, and those that are left out.
pub(crate) struct Catalogue {
    /// Rows that share a policy.
    tables: Vec<Vec<Case>>,
    /// Attacks that are not tried, and why.
    pub(crate) excluded: Vec<(String, String)>,
}

impl Catalogue {
    /// Tries every attack once, one after the other and without a policy: what works is the catalogue. Those that `only`
    /// names, if it names any.
    ///
    /// # Panics
    /// When it names one that there is not.
    pub(crate) fn of_this_kernel(world: &World, only: &[String]) -> Self {
        let every = || GROUPS.iter().flat_map(|(_, attacks)| *attacks);
        for name in only {
            assert!(every().any(|attack| attack.name == name), "there is no attack {name}");
        }
        let mut excluded = Vec::new();
        let mut rows = Vec::new();
        for attack in every().filter(|attack| only.is_empty() || only.iter().any(|name| name == attack.name))
        {
            let listed = EXCLUSIVE.iter().find(|(name, _)| *name == attack.name);
            match listed {
                Some((_, why)) => excluded.push((attack.name.to_owned(), (*why).to_owned())),
                None if !exists(attack) => {
                    excluded.push((attack.name.to_owned(), "not on this kernel".to_owned()));
                }
                None => rows.extend((attack.rows)()),
            }
        }
        let tables = apart(rows).into_iter().enumerate();
        let tables: Vec<_> =
            tables.map(|(number, rows)| world.table(&format!("bare-{number}"), rows).supported()).collect();
        let tables = tables.into_iter().filter(|rows| !rows.is_empty()).collect();
        Self { tables, excluded }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.tables.iter().map(Vec::len).sum()
    }

    /// The names of the attacks.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.tables.iter().flatten().map(Case::name).collect()
    }

    /// How many attacks there are.
    pub(crate) fn attacks(&self) -> usize {
        self.names().len()
    }

    /// One attacker with the whole catalogue.
    pub(crate) fn attacker(&self, world: &World, number: usize) -> Attacker {
        let fronts = self.tables.iter().enumerate().map(|(table, rows)| {
            let name = format!("stress-{number}-{table}");
            let table = world.table(&name, rows.clone());
            let arrived = table.arrived();
            Front { table, cgroup: Cgroup::create(&name), arrived }
        });
        Attacker { number, fronts: fronts.collect() }
    }
}

/// One attacker.
pub(crate) struct Attacker {
    number: usize,
    fronts: Vec<Front>,
}

/// Rows that share a policy, where they are tried.
struct Front {
    table: Table,
    cgroup: Cgroup,
    /// At the servers, before the run.
    arrived: u64,
}

impl Attacker {
    /// Policies under which everything that it tries is refused.
    pub(crate) fn policies(&self) -> impl Iterator<Item = Policy> + '_ {
        self.fronts.iter().map(|front| front.table.refusing_policy(&front.cgroup))
    }

    /// Starts a process in each cgroup that stays, whatever is swapped, and must keep its label.
    pub(crate) fn residents(&self) -> impl Iterator<Item = Actor> + '_ {
        let program = installed("attacker").to_string_lossy().into_owned();
        self.fronts.iter().map(move |front| {
            let place = Place::Joining(&front.cgroup);
            let performer = Performer { place, program: &program, uid: None, inherited: Vec::new() };
            let mut resident = Actor::start_performer(performer).expect("its program is listed");
            // An answer shows that it has been through `execve`.
            assert!(!resident.perform(&op(&["none"])).ok, "there is no such attack");
            resident
        })
    }

    /// Round after round until it is over. Between two tables it can be held at the gate.
    pub(crate) fn attack_until(&self, over: &AtomicBool, gate: &RwLock<()>, tally: &Tally) {
        while !over.load(Ordering::SeqCst) {
            for front in &self.fronts {
                let Ok(_open) = gate.read() else { return };
                if over.load(Ordering::SeqCst) {
                    return;
                }
                match catch_unwind(AssertUnwindSafe(|| front.table.attempt(&front.cgroup))) {
                    Ok(reports) => tally.attempts(front.table.cases(), &reports),
                    Err(panic) => {
                        let said = panic.downcast_ref::<String>().cloned();
                        let said =
                            said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
                        tally.violations([format!(
                            "attacker {} could not go on: {}",
                            self.number,
                            said.unwrap_or_default()
                        )]);
                    }
                }
            }
            tally.round();
        }
    }

    /// What has reached its servers, which should be nothing.
    pub(crate) fn arrivals(&self) -> Vec<String> {
        let arrived = self.fronts.iter().map(|front| (front, front.table.arrived().abs_diff(front.arrived)));
        arrived
            .filter(|(_, arrived)| *arrived > 0)
            .map(|(front, arrived)| {
                format!("{arrived} connections, datagrams and bytes arrived from {}", front.cgroup.path())
            })
            .collect()
    }
}
