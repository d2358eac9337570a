//! Programs that are listed for probes: who enters a workload from outside may start them, and nobody else.

use std::fs;
use std::path::{Path, PathBuf};

use enforcer_common::verdict::Reason::{NoRule, Probe};
use enforcer_vm_tests::actor::{self, Actor, Place, installed, program};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::{copy_of_actor, evidence};

use super::containers::{base, bind, named};

/// A program that policies of these tests list for probes.
fn probe() -> String {
    let path = PathBuf::from(format!("{SCRATCH}/probe"));
    fs::create_dir_all(SCRATCH).unwrap();
    if !path.exists() {
        copy_of_actor(&path);
    }
    path.to_string_lossy().into_owned()
}

/// What the launcher, or what it started, ended with. 73: the program was refused to the launcher. 1: something was refused
/// to the program.
fn entering(cgroup: &Cgroup, program: &str, arguments: &[&str]) -> i32 {
    let status = actor::status(Place::Launched(cgroup), Path::new(program), arguments).unwrap();
    status.code().unwrap_or_else(|| panic!("{program} {arguments:?}: {status}"))
}

#[test]
fn who_enters_a_container_may_probe_it_and_the_container_may_not() {
    let mut enforcer = Enforcer::ready();
    let (probe, own) = (probe(), program());
    let cgroup = Cgroup::create("pod-probed");
    // Without a policy, everybody starts everything.
    assert_eq!(entering(&cgroup, &probe, &["exec", &own, "true"]), 0);
    let mut free = Actor::start(Place::Launched(&cgroup)).unwrap();
    assert_eq!(free.perform(&["exec", &probe, "true"]).detail, "exit 0");
    drop(free);
    if baseline_only() {
        return;
    }
    let policy = named("probed").allow("exec.probes", &probe);
    enforcer.apply(&[&base().allow("exec.probes", &probe), &policy]);
    let cgroup = Cgroup::create("pod-probed");
    assert_eq!(entering(&cgroup, &probe, &["true"]), 73, "before it is admitted there is nothing to probe");
    bind(&cgroup, "probed");
    let mark = enforcer.mark();
    assert_eq!(entering(&cgroup, &probe, &["true"]), 73, "its first program is the container itself");
    let events = enforcer.events_since(mark);
    let told = events.iter().map(|event| (event.text("reason"), event.needed())).collect::<Vec<_>>();
    assert_eq!(told, [(Probe.name(), vec!["exec"])], "{events:?}");

    let mut workload = Actor::start(Place::Launched(&cgroup)).unwrap();
    let mark = enforcer.mark();
    let launcher = installed("launcher").to_string_lossy().into_owned();
    let attacks: [&[&str]; 5] = [
        &["exec", &probe, "true"],
        &["fork", "exec", &probe, "true"],
        &["exec", &launcher, "/nowhere", "--", &probe],
        // As code of another program's.
        &["mmap-exec", &probe],
        &["execveat", &probe],
    ];
    let reports: Vec<_> = attacks.iter().map(|attack| workload.perform(attack)).collect();
    let events = enforcer.events_since(mark);
    assert!(reports.iter().all(|report| report.refused()), "{}", evidence(&reports, &events));
    let reasons: Vec<_> = events.iter().map(|event| event.text("reason")).collect();
    assert_eq!(reasons, [Probe, Probe, NoRule, NoRule, Probe].map(|reason| reason.name()));
    assert!(workload.perform(&["open-read", &probe]).ok, "it is a file like others");

    let mark = enforcer.mark();
    assert_eq!(entering(&cgroup, &probe, &["true"]), 0, "a probe");
    assert_eq!(entering(&cgroup, &probe, &["exec", &probe, "true"]), 0, "a probe that starts another");
    assert_eq!(
        entering(&cgroup, &probe, &["fork", "exec", &own, "exec", &probe, "true"]),
        0,
        "or has it started"
    );
    assert!(enforcer.events_since(mark).is_empty());
    // Those of the workload's own programs that were started from outside are the workload's.
    assert_eq!(entering(&cgroup, &own, &["exec", &probe, "true"]), 1);
    // Nor does joining help who is no launcher.
    assert_eq!(
        actor::status(Place::Joining(&cgroup), Path::new(&probe), &["true"]).unwrap_err().raw_os_error(),
        Some(libc::EPERM)
    );
    // A cgroup that was made inside is the container's, too; and so it stays when policies come.
    let inside = cgroup.child("inside");
    for _ in 0..2 {
        assert_eq!(entering(&inside, &probe, &["true"]), 0);
        assert_eq!(entering(&cgroup, &probe, &["true"]), 0);
        assert!(workload.perform(&["exec", &probe, "true"]).refused());
        enforcer.apply(&[&base(), &policy, &named("another")]);
    }
    // Whatever else a probe does is judged by the policy.
    let secret = format!("{SCRATCH}/probe-secret");
    fs::write(&secret, "secret").unwrap();
    assert_eq!(entering(&cgroup, &probe, &["open-read", &secret]), 1);
    enforcer.apply(&[&base(), &named("probed")]);
    assert_eq!(entering(&cgroup, &probe, &["true"]), 73, "it is listed no more");
}

/// The service manager enters its units; there is no runtime that would say which program is the first.
#[test]
fn who_launches_a_unit_may_start_what_the_unit_may_not() {
    let mut enforcer = Enforcer::ready();
    let (probe, own) = (probe(), program());
    let cgroup = Cgroup::create("probed-unit");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("probed-unit", &cgroup).allow("exec.probes", &probe);
    enforcer.apply(&[&policy]);
    assert_eq!(entering(&cgroup, &probe, &["true"]), 0);
    assert_eq!(entering(&cgroup, &own, &["exec", &probe, "true"]), 1);
    assert_eq!(entering(&cgroup, &own, &["true"]), 0);
    // In audit mode it starts, and is reported.
    enforcer.apply(&[&policy.audit()]);
    let mark = enforcer.mark();
    assert_eq!(entering(&cgroup, &own, &["exec", &probe, "true"]), 0);
    let events = enforcer.events_since(mark);
    let exec: Vec<_> = events.iter().filter(|event| event.text("family") == "exec").collect();
    assert!(matches!(exec[..], [event] if event.text("reason") == Probe.name()), "{events:?}");
}
