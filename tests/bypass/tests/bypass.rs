//! Suite `bypass`: tries every attack on every kernel of the matrix, with and without enforcement.
//!
//! One test per group of attacks, and one per group for an ordinary user. Rows that cannot share a policy, because what
//! one is given would allow the other, are spread over several tables.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

use std::process::{Child, Command, Stdio};

use enforcer_bypass_tests::attack::Attack;
use enforcer_bypass_tests::attacks::GROUPS;
use enforcer_bypass_tests::gaps::is_known_gap;
use enforcer_vm_tests::actor::installed;
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH};
use enforcer_vm_tests::scenario::{Case, Table};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The user of the second pass.
const USER: u32 = 1000;

#[test]
fn descriptors() {
    World::new().attack("descriptors", None);
}

#[test]
fn descriptors_as_user() {
    World::new().attack("descriptors", Some(USER));
}

#[test]
fn doors() {
    World::new().attack("doors", None);
}

#[test]
fn doors_as_user() {
    World::new().attack("doors", Some(USER));
}

#[test]
fn identity() {
    World::new().attack("identity", None);
}

#[test]
fn identity_as_user() {
    World::new().attack("identity", Some(USER));
}

#[test]
fn memory() {
    World::new().attack("memory", None);
}

#[test]
fn memory_as_user() {
    World::new().attack("memory", Some(USER));
}

#[test]
fn names() {
    World::new().attack("names", None);
}

#[test]
fn names_as_user() {
    World::new().attack("names", Some(USER));
}

#[test]
fn network() {
    World::new().attack("network", None);
}

#[test]
fn network_as_user() {
    World::new().attack("network", Some(USER));
}

#[test]
fn toctou() {
    World::new().attack("toctou", None);
}

#[test]
fn toctou_as_user() {
    World::new().attack("toctou", Some(USER));
}

/// Attacks that still get through must at least be attacks.
#[test]
fn known_gaps() {
    let _turn = Enforcer::ready();
    let attacks = GROUPS.iter().flat_map(|(_, attacks)| *attacks).filter(|attack| is_known_gap(attack.name));
    World::new().table("known-gaps", rows(attacks)).check_bare();
}

/// The rows of those attacks that exist on this kernel.
fn rows<'a>(attacks: impl Iterator<Item = &'a Attack>) -> Vec<Case> {
    let release = std::env::var("ENFORCER_VM_KERNEL").expect("set by the VM harness");
    let mut rows = Vec::new();
    for attack in attacks {
        if attack.kernels.contain(&release) {
            rows.extend((attack.rows)());
        } else {
            println!("not on this kernel: {}", attack.name);
        }
    }
    rows
}

/// What attackers find outside their workload.
struct World {
    /// A process to get at, in a mount namespace of its own.
    victim: Child,
    /// A name for that namespace.
    namespace: String,
    /// Cgroups without a policy.
    refuges: [Cgroup; 2],
}

impl World {
    fn new() -> Self {
        let mut command = Command::new(installed("attacker"));
        command.arg("script").stdin(Stdio::piped()).stdout(Stdio::null());
        let leave = || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(Into::into);
        // SAFETY: unshare(2) is async-signal-safe.
        unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, leave) };
        let victim = command.spawn().unwrap();
        let namespace = format!("{SCRATCH}/mount-namespace");
        std::fs::create_dir_all(SCRATCH).unwrap();
        std::fs::write(&namespace, "").unwrap();
        let source = format!("/proc/{}/ns/mnt", victim.id());
        mount(Some(source.as_str()), namespace.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .unwrap();
        let refuges = ["bypass-refuge", "bypass-other-refuge"].map(Cgroup::create);
        Self { victim, namespace, refuges }
    }

    /// The lowest address of the victim's stack, which it does not use.
    fn victim_stack(&self) -> usize {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.victim.id())).unwrap();
        let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
        usize::from_str_radix(stack.split('-').next().unwrap(), 16).unwrap()
    }

    /// Tries a group's attacks, as root or as somebody without any capability.
    fn attack(&self, group: &str, user: Option<u32>) {
        let (_, attacks) = GROUPS.iter().find(|(name, _)| *name == group).unwrap();
        let wanted = attacks.iter().filter(|attack| user.is_none() || attack.ordinary);
        let rows = rows(wanted.filter(|attack| !is_known_gap(attack.name)));
        let suffix = if user.is_some() { "-user" } else { "" };
        for (number, rows) in apart(rows).into_iter().enumerate() {
            let table = self.table(&format!("{group}{suffix}-{number}"), rows);
            match user {
                Some(uid) => table.as_user(uid).check(),
                None => table.check(),
            }
        }
    }

    fn table(&self, name: &str, rows: Vec<Case>) -> Table {
        let [refuge, other] = self.refuges.each_ref().map(|cgroup| cgroup.directory().display().to_string());
        Table::new(name, rows)
            .performed_by(&installed("attacker").to_string_lossy())
            .with_word("victim", &self.victim.id().to_string())
            .with_word("victim-stack", &self.victim_stack().to_string())
            .with_word("namespace", &self.namespace)
            .with_word("refuge", &refuge)
            .with_word("other-refuge", &other)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = umount2(self.namespace.as_str(), MntFlags::MNT_DETACH);
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

/// Spreads rows over as few tables as can be had in one go.
fn apart(rows: Vec<Case>) -> Vec<Vec<Case>> {
    let mut tables: Vec<Vec<Case>> = Vec::new();
    for row in rows {
        match tables.iter_mut().find(|table| table.iter().all(|other| !other.collides_with(&row))) {
            Some(table) => table.push(row),
            None => tables.push(vec![row]),
        }
    }
    tables
}
