//! Suite `bypass`: tries every attack on every kernel of the matrix, with and without enforcement.
//!
//! One test per group of attacks, and one per group for an ordinary user. Rows that cannot share a policy, because what
//! one is given would allow the other, are spread over several tables.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

use enforcer_bypass_tests::attacks::GROUPS;
use enforcer_bypass_tests::world::{World, apart, rows};

/// The user of the second pass.
const USER: u32 = 1000;

#[test]
fn descriptors() {
    attack("descriptors", None);
}

#[test]
fn descriptors_as_user() {
    attack("descriptors", Some(USER));
}

#[test]
fn doors() {
    attack("doors", None);
}

#[test]
fn doors_as_user() {
    attack("doors", Some(USER));
}

#[test]
fn identity() {
    attack("identity", None);
}

#[test]
fn identity_as_user() {
    attack("identity", Some(USER));
}

#[test]
fn memory() {
    attack("memory", None);
}

#[test]
fn memory_as_user() {
    attack("memory", Some(USER));
}

#[test]
fn names() {
    attack("names", None);
}

#[test]
fn names_as_user() {
    attack("names", Some(USER));
}

#[test]
fn network() {
    attack("network", None);
}

#[test]
fn network_as_user() {
    attack("network", Some(USER));
}

#[test]
fn toctou() {
    attack("toctou", None);
}

#[test]
fn toctou_as_user() {
    attack("toctou", Some(USER));
}

/// Tries a group's attacks, as root or as somebody without any capability.
fn attack(group: &str, user: Option<u32>) {
    let world = World::new();
    let (_, attacks) = GROUPS.iter().find(|(name, _)| *name == group).unwrap();
    let wanted = attacks.iter().filter(|attack| user.is_none() || attack.ordinary);
    let rows = rows(wanted);
    let suffix = if user.is_some() { "-user" } else { "" };
    for (number, rows) in apart(rows).into_iter().enumerate() {
        let table = world.table(&format!("{group}{suffix}-{number}"), rows);
        match user {
            Some(uid) => table.as_user(uid).check(),
            None => table.check(),
        }
    }
}
