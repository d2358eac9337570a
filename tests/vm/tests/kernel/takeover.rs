//! The daemon comes and goes; what it installed stays.

use std::fs;

use enforcer_vm_tests::actor::{self, Actor, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::pins;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::wait;

/// Waits until the looping actor has finished rounds that began after this call.
fn more_rounds(actor: &mut Actor) {
    for _ in 0..2 {
        wait::until("another report of the loop", wait::SOON, || {
            let mut progress = false;
            for report in actor.pending() {
                assert!(report.ok, "a wrong verdict: {report:?}");
                progress = true;
            }
            progress.then_some(())
        });
    }
}

#[test]
fn a_killed_daemon_leaves_enforcement_on_and_a_new_one_takes_over() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("takeover");
    let (listed, unlisted) = (format!("{SCRATCH}/takeover-listed"), format!("{SCRATCH}/takeover-unlisted"));
    fs::create_dir_all(SCRATCH).unwrap();
    for file in [&listed, &unlisted] {
        fs::write(file, "").unwrap();
    }
    if baseline_only() {
        return;
    }
    let policy = Policy::of("takeover", &cgroup).allow("file.read", &listed);
    enforcer.apply(&[&policy]);
    let table = serde_json::json!([
        { "expect": "allow", "op": ["open-read", listed] },
        { "expect": "deny", "op": ["open-read", unlisted] },
        { "expect": "deny", "op": ["fork", "open-read", unlisted] },
        { "expect": "deny", "op": ["mmap-rwx"] },
    ]);
    let mut looping = Actor::start(Place::Joining(&cgroup)).unwrap();
    looping.ask(&op(&["loop", &table.to_string()]));
    more_rounds(&mut looping);
    let links = pins::link_ids();
    assert!(!links.is_empty());

    enforcer.kill_daemon();
    more_rounds(&mut looping);
    // Newcomers are bound and armed, too.
    let child = cgroup.child("born-without-daemon");
    let reports = actor::run(Place::Joining(&child), &[op(&["open-read", &unlisted])]).unwrap();
    assert!(reports[0].refused(), "{reports:?}");
    // Policies can be changed without a daemon.
    enforcer.apply(&[&policy]);
    more_rounds(&mut looping);

    enforcer.start_daemon();
    more_rounds(&mut looping);
    assert_eq!(pins::link_ids(), links, "the links were attached anew");
    let last = looping.finish();
    assert!(last.iter().all(|report| report.ok), "{last:?}");
    println!("{}", last.last().map_or("", |report| &report.detail));
    // Events flow again.
    enforcer.barrier();
}

/// Programs of another build are running: the daemon puts its own beside them before it retires them.
#[test]
fn an_upgrade_leaves_no_gap() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("upgrade");
    let (listed, unlisted) = (format!("{SCRATCH}/upgrade-listed"), format!("{SCRATCH}/upgrade-unlisted"));
    fs::create_dir_all(SCRATCH).unwrap();
    for file in [&listed, &unlisted] {
        fs::write(file, "").unwrap();
    }
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("upgrade", &cgroup).allow("file.read", &listed)]);
    let table = serde_json::json!([
        { "expect": "allow", "op": ["open-read", listed] },
        { "expect": "deny", "op": ["open-read", unlisted] },
        { "expect": "deny", "op": ["fork", "open-read", unlisted] },
    ]);
    let mut looping = Actor::start(Place::Joining(&cgroup)).unwrap();
    looping.ask(&op(&["loop", &table.to_string()]));
    looping.be_nice();
    more_rounds(&mut looping);
    enforcer.kill_daemon();
    // The same programs under the name of another build: what the daemon goes by.
    let links = pins::directory().join("links");
    let sets = || -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(&links).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let [own] = <[_; 1]>::try_from(sets()).unwrap();
    let own = own.into_string().unwrap();
    let (digest, control) = own.split_once('-').unwrap();
    assert_eq!(digest.len(), 16, "{own}");
    let older = format!("0123456789abcdef-{control}");
    fs::rename(links.join(&own), links.join(&older)).unwrap();
    let before = pins::link_ids();

    enforcer.start_daemon();
    more_rounds(&mut looping);
    assert_eq!(sets(), [own.as_str()], "one set is left, the daemon's own");
    let after = pins::link_ids();
    assert_eq!(after.len(), before.len());
    for (hook, link) in &after {
        assert!(!before.values().any(|old| old == link), "{hook} was not attached anew");
    }
    let last = looping.finish();
    assert!(last.iter().all(|report| report.ok), "{last:?}");
    enforcer.barrier();
}
