//! Every attack at once and over and over, beside a service that has work to do, while policies change.
//!
//! `stress [--minutes N] [--attackers N] [--only ATTACK]…`, as root in a test VM. Each attacker goes through the whole
//! catalogue of attacks, or those that are named, in cgroups and under policies of its own; [`service`] is the workload that must not notice, [`watch`] what
//! the kernel and the enforcer have to say meanwhile. This file tells the story and decides the exit status: zero only
//! if nothing was violated. `/share/stress.json` has every figure.
#![allow(clippy::print_stdout, reason = "telling the story is what this program is for")]

mod attackers;
mod service;
mod tally;
mod watch;

use std::path::Path;
use std::process::ExitCode;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attackers::{Attacker, Catalogue};
use enforcer_bypass_tests::world::World;
use enforcer_vm_tests::actor::{self, Actor};
use enforcer_vm_tests::enforcer::Enforcer;
use enforcer_vm_tests::policy::Policy;
use service::Service;
use tally::Tally;
use watch::{Kernel, labels};

/// Where the figures go, if the harness shares a directory.
const SHARE: &str = "/share";

/// Swaps between two looks at everything else.
const SWAPS: usize = 4;

/// How often all attackers are held to look at the labels of those that remain.
const MINUTE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let minutes = option("--minutes", 10);
    let count = usize::try_from(option("--attackers", 8)).unwrap_or(usize::MAX);
    // Servers of attacks keep their sockets for as long as they may be needed, which is to the end.
    actor::allow_many_files().expect("raising a limit");
    let mut kernel = Kernel::from_now();
    let mut enforcer = Enforcer::ready();
    enforcer.apply(&[]);
    let world = World::new();
    println!("without a policy, each attack once:");
    let catalogue = Catalogue::of_this_kernel(&world, &named("--only"));
    println!("{} ways of {} attacks", catalogue.rows(), catalogue.attacks());
    let attackers: Vec<Attacker> = (0..count).map(|number| catalogue.attacker(&world, number)).collect();
    let mut service = Service::new();

    let policies: Vec<Policy> =
        attackers.iter().flat_map(Attacker::policies).chain([service.policy()]).collect();
    // A rule more in each, which nobody needs: a swap must not matter to anybody.
    let others: Vec<Policy> =
        policies.iter().map(|policy| policy.clone().allow("file.read", "/nobody/needs/this")).collect();
    let (policies, others): (Vec<&Policy>, Vec<&Policy>) =
        (policies.iter().collect(), others.iter().collect());
    enforcer.apply(&policies);
    let start = enforcer.mark();
    let residents: Vec<Actor> = attackers.iter().flat_map(Attacker::residents).collect();
    service.start();
    println!("{count} attackers under {} policies, for {minutes} minutes", policies.len());

    let tally = Tally::new(&catalogue);
    let gate = RwLock::new(());
    let over = AtomicBool::new(false);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for attacker in &attackers {
            scope.spawn(|| attacker.attack_until(&over, &gate, &tally));
        }
        // Later than the attackers' threads, which would inherit it.
        go_first();
        // Whatever panics here must not leave the attackers attacking for ever.
        let _over = SetWhenDropped(&over);
        let mut look = Instant::now();
        while started.elapsed() < Duration::from_secs(60 * minutes) {
            enforcer.swap_in_process([&others, &policies], SWAPS, |_| {});
            tally.swapped(SWAPS);
            tally.violations(service.wrong());
            tally.violations(kernel.complaints());
            if look.elapsed() >= MINUTE {
                let _held = gate.write().expect("no attacker panics while it holds the gate");
                tally.violations(labels(&enforcer));
                println!("{:>4} s: {}", started.elapsed().as_secs(), tally.progress());
                look = Instant::now();
            }
        }
    });
    for attacker in &attackers {
        tally.violations(attacker.arrivals());
    }
    tally.violations(labels(&enforcer));
    drop(residents);
    let work = service.finish(&tally);
    tally.events(&mut enforcer, start, service::POLICY);
    tally.violations(kernel.complaints());
    let report = tally.report(&catalogue, started.elapsed(), count, &work);
    if Path::new(SHARE).is_dir() {
        let text = serde_json::to_vec_pretty(&report).expect("figures are JSON");
        std::fs::write(Path::new(SHARE).join("stress.json"), text).expect("writing the figures");
    }
    tally.conclude(&catalogue, &work)
}

/// The number after an option of the command line.
fn option(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments
        .next()
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} {value}: a number, please")))
}

/// Every word after an option of the command line.
fn named(option: &str) -> Vec<String> {
    let arguments: Vec<String> = std::env::args().collect();
    arguments.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
}

/// Lets this thread have the processor before the attackers, who would leave it a swap every few seconds.
fn go_first() {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
    assert_eq!(result, 0, "setpriority");
}

/// Ends the attacks, also when the main thread panics.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
