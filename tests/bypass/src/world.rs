//! What attackers find outside their workload, and which attacks there are on this kernel.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use enforcer_vm_tests::actor::installed;
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::SCRATCH;
use enforcer_vm_tests::scenario::{Case, Table};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::attack::Attack;

/// What attackers find outside their workload.
pub struct World {
    /// A process to get at, in a mount namespace of its own.
    victim: Child,
    /// A name for that namespace.
    namespace: String,
    /// Cgroups without a policy.
    refuges: [Cgroup; 2],
}

impl World {
    /// Makes it.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it starts a process: nothing that happens by default")]
    pub fn new() -> Self {
        let mut command = Command::new(installed("attacker"));
        command.arg("script").stdin(Stdio::piped()).stdout(Stdio::null());
        let leave = || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(Into::into);
        // SAFETY: unshare(2) is async-signal-safe.
        unsafe { command.pre_exec(leave) };
        let victim = command.spawn().expect("starting a victim");
        let namespace = format!("{SCRATCH}/mount-namespace");
        std::fs::create_dir_all(SCRATCH).expect("creating the scratch directory");
        std::fs::write(&namespace, "").expect("making a place for the namespace");
        let source = format!("/proc/{}/ns/mnt", victim.id());
        mount(Some(source.as_str()), namespace.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .expect("giving the namespace a name");
        let refuges = ["bypass-refuge", "bypass-other-refuge"].map(Cgroup::create);
        Self { victim, namespace, refuges }
    }

    /// The lowest address of the victim's stack, which it does not use.
    fn victim_stack(&self) -> usize {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.victim.id())).expect("maps");
        let stack = maps.lines().find(|line| line.ends_with("[stack]")).expect("a stack");
        usize::from_str_radix(stack.split('-').next().unwrap_or_default(), 16).expect("an address")
    }

    /// A table of rows that the attacker carries out, and that may refer to this world.
    ///
    /// # Panics
    /// When the victim is gone.
    #[must_use]
    pub fn table(&self, name: &str, rows: Vec<Case>) -> Table {
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

/// Whether the attack exists on the running kernel.
///
/// # Panics
/// Outside a test VM.
#[must_use]
pub fn exists(attack: &Attack) -> bool {
    attack.kernels.contain(&std::env::var("ENFORCER_VM_KERNEL").expect("set by the VM harness"))
}

/// The rows of those attacks that exist on this kernel.
pub fn rows<'a>(attacks: impl Iterator<Item = &'a Attack>) -> Vec<Case> {
    let mut rows = Vec::new();
    for attack in attacks {
        if exists(attack) {
            rows.extend((attack.rows)());
        } else {
            println!("not on this kernel: {}", attack.name);
        }
    }
    rows
}

/// Spreads rows over as few tables as can be had in one go: what one is given may be what another is refused.
#[must_use]
pub fn apart(rows: Vec<Case>) -> Vec<Vec<Case>> {
    let mut tables: Vec<Vec<Case>> = Vec::new();
    for row in rows {
        match tables.iter_mut().find(|table| table.iter().all(|other| !other.collides_with(&row))) {
            Some(table) => table.push(row),
            None => tables.push(vec![row]),
        }
    }
    tables
}
