//! Changing files by what has no path of its own.

use enforcer_common::hook::Hook::InodeRemovexattr;
use enforcer_vm_tests::actor::{Place, op, run};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;

#[test]
fn removing_an_extended_attribute() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("removexattr");
    let file = format!("{SCRATCH}/removexattr");
    std::fs::write(&file, "").unwrap();
    let label = op(&["setxattr", &file]);
    let attack = op(&["removexattr", &file]);
    let bare = run(Place::Joining(&cgroup), &[label.clone(), attack.clone()]).unwrap();
    if !bare[0].ok {
        println!("skipped: no extended attributes here: {bare:?}");
        return;
    }
    assert!(bare[1].ok, "without a policy: {bare:?}");
    if baseline_only() {
        return;
    }
    run(Place::Host, &[label]).unwrap();
    enforcer.apply(&[&Policy::of("removexattr", &cgroup).allow("file.read", &file)]);
    let mark = enforcer.mark();
    let reports = run(Place::Joining(&cgroup), std::slice::from_ref(&attack)).unwrap();
    let events = enforcer.events_since(mark);
    assert!(reports[0].refused(), "{reports:?}");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].text("hook"), InodeRemovexattr.name());
    enforcer.apply(&[&Policy::of("removexattr", &cgroup).allow("file.write", &file)]);
    let reports = run(Place::Joining(&cgroup), &[attack]).unwrap();
    assert!(reports[0].ok, "{reports:?}");
}
