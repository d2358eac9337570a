//! The attacks, one file each.

mod descriptors;
mod doors;
mod identity;
mod memory;
mod names;
mod network;
mod toctou;

use enforcer_vm_tests::report::Outcome;

use crate::attack::{Attack, failure};

/// Attacks on the same thing: a name and the attacks.
pub type Group = (&'static str, &'static [Attack]);

/// All of them.
pub const GROUPS: &[Group] = &[
    ("descriptors", descriptors::ATTACKS),
    ("doors", doors::ATTACKS),
    ("identity", identity::ATTACKS),
    ("memory", memory::ATTACKS),
    ("names", names::ATTACKS),
    ("network", network::ATTACKS),
    ("toctou", toctou::ATTACKS),
];

/// Carries out one attack: its name and its arguments.
///
/// # Errors
/// When it fails: the step, and why.
pub fn perform(op: &[String]) -> Outcome {
    let words: Vec<&str> = op.iter().map(String::as_str).collect();
    let Some((name, arguments)) = words.split_first() else {
        return Err(failure("nothing to do", libc::EINVAL));
    };
    let attack = GROUPS.iter().flat_map(|(_, attacks)| *attacks).find(|attack| attack.name == *name);
    match attack {
        Some(attack) => (attack.run)(arguments),
        None => Err(failure(&format!("unknown attack {name}"), libc::ENOSYS)),
    }
}
