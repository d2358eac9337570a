//! How a policy gets hold of a task.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use enforcer_vm_tests::actor::{self, Actor, Place, op, program};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::{copy_of_actor, evidence};

/// A file that no policy lists.
fn secret(name: &str) -> String {
    let file = format!("{SCRATCH}/{name}");
    fs::create_dir_all(SCRATCH).unwrap();
    fs::write(&file, "secret").unwrap();
    file
}

/// Whether an actor there may read the file.
fn may_read(place: Place<'_>, file: &str) -> bool {
    let reports = actor::run(place, &[op(&["open-read", file])]).expect("starting the actor");
    assert!(reports[0].ok || reports[0].refused(), "{reports:?}");
    reports[0].ok
}

#[test]
fn tasks_that_were_there_before_are_armed_at_once() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("running");
    let child = cgroup.child("below");
    let file = secret("running");
    let mut old = Actor::start(Place::Joining(&cgroup)).unwrap();
    let mut deep = Actor::start(Place::Joining(&child)).unwrap();
    assert!(old.perform(&["open-read", &file]).ok, "without a policy");
    assert!(deep.perform(&["open-read", &file]).ok, "without a policy");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("running", &cgroup)]);
    for actor in [&mut old, &mut deep] {
        let report = actor.perform(&["open-read", &file]);
        assert!(report.refused(), "{report:?}");
        let report = actor.perform(&["fork", "open-read", &file]);
        assert!(report.refused(), "{report:?}");
    }
    // The operator takes the policy away: the tasks are free again.
    enforcer.apply(&[]);
    assert!(old.perform(&["open-read", &file]).ok, "after the policy was removed");
}

#[test]
fn a_host_task_that_moves_in_is_armed_at_once() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("moved-in");
    let file = secret("moved-in");
    let mut actor = Actor::start(Place::Host).unwrap();
    assert!(actor.perform(&["open-read", &file]).ok, "without a policy");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("moved-in", &cgroup)]);
    assert!(actor.perform(&["open-read", &file]).ok, "the host is not judged");
    cgroup.adopt(actor.pid());
    let report = actor.perform(&["open-read", &file]);
    assert!(report.refused(), "{report:?}");
}

#[test]
fn new_cgroups_are_bound_when_they_are_made() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let file = secret("children");
    let parent = Cgroup::create("parent");
    let stranger = Cgroup::create("stranger");
    let by_glob = Policy::selecting("by-glob", "cgroup", "/enforcer-test/globbed-*");
    enforcer.apply(&[&Policy::of("parent", &parent), &by_glob]);
    let child = parent.child("child");
    let grandchild = child.child("grandchild");
    let globbed = Cgroup::create("globbed-one");
    let below = globbed.child("below");
    for bound in [&child, &grandchild, &globbed, &below] {
        assert!(!may_read(Place::Joining(bound), &file), "{} is not bound", bound.path());
    }
    assert!(may_read(Place::Joining(&stranger), &file), "a cgroup that nothing selects");
    assert!(may_read(Place::Joining(&stranger.child("globbed-two")), &file), "the glob starts at the root");
}

/// A workload that may make cgroups chooses their names, but not their policy: neither at once nor at the next
/// installation. What the host makes below the same workload has the policy that names it.
#[test]
fn a_workload_does_not_choose_its_policy_by_a_name() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let file = secret("by-name");
    let parent = Cgroup::create("maker");
    let directory = parent.directory().to_string_lossy().into_owned();
    let strict = Policy::of("maker", &parent).allow("file.create", &format!("{directory}/**"));
    let lax = Policy::selecting("lax", "cgroup", "/enforcer-test/maker/lax-*").allow("file.read", &file);
    enforcer.apply(&[&strict, &lax]);
    let named = |name: &str| {
        // Somebody has made it already.
        assert!(parent.directory().join(name).is_dir(), "{name}");
        parent.child(name)
    };
    let made = actor::run(Place::Joining(&parent), &[op(&["mkdir", &format!("{directory}/lax-inside")])]);
    assert!(made.as_ref().unwrap()[0].ok, "{made:?}");
    let (inside, outside) = (named("lax-inside"), parent.child("lax-outside"));
    let check = |when: &str| {
        assert!(!may_read(Place::Joining(&inside), &file), "{when}: the name has chosen the policy");
        assert!(may_read(Place::Joining(&outside), &file), "{when}: the host's name counts");
    };
    check("at once");
    enforcer.apply(&[&strict, &lax]);
    check("after the same installation");
    enforcer.apply(&[&strict, &lax, &Policy::of("other", &Cgroup::create("other"))]);
    check("after another installation");
    // What is made below it has its policy, too, unless the host gives it a name that a policy selects.
    assert!(!may_read(Place::Joining(&inside.child("below")), &file));
}

#[test]
fn the_first_program_is_judged_however_it_gets_in() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("first-program");
    fs::create_dir_all(SCRATCH).unwrap();
    let evil = copy_of_actor(Path::new(&format!("{SCRATCH}/first-evil")));
    let run = |place| actor::status(place, &evil, &["true"]);
    assert!(run(Place::Joining(&cgroup)).unwrap().success(), "without a policy");
    assert!(run(Place::Launched(&cgroup)).unwrap().success(), "without a policy");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("first-program", &cgroup)]);
    let refused = run(Place::Joining(&cgroup)).expect_err("an unlisted program was started");
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    assert_eq!(run(Place::Launched(&cgroup)).unwrap().code(), Some(73), "the launcher's exec is judged");
    assert!(actor::status(Place::Launched(&cgroup), Path::new(&program()), &["true"]).unwrap().success());
}

/// A launcher prepares a workload: that work is the host's business until the workload's own program starts.
#[test]
fn a_launcher_enters_unjudged_and_what_it_starts_does_not() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("entering");
    let setup = secret("set-up");
    let file = secret("entered");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("entering", &cgroup)]);
    let launch = |launcher: &str, rest: &[&str]| {
        let mut command = Command::new(launcher);
        command.arg(cgroup.directory()).args(["--touch", &setup, "--", &program()]).args(rest);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let mark = enforcer.mark();
    let trusted = actor::installed("launcher").to_string_lossy().into_owned();
    let output = launch(&trusted, &["true"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(enforcer.events_since(mark).is_empty(), "set-up work was reported");
    let output = launch(&trusted, &["open-read", &file]);
    assert_eq!(output.status.code(), Some(1), "the workload's program is not armed: {output:?}");

    // The same program under another name is nobody's launcher.
    let impostor = format!("{SCRATCH}/impostor");
    fs::copy(&trusted, &impostor).unwrap();
    let output = launch(&impostor, &["true"]);
    assert_eq!(output.status.code(), Some(72), "an impostor's set-up was not judged: {output:?}");
}

/// The launcher is trusted because of where it comes from, not because of its name: started from inside, it is judged.
#[test]
fn a_launcher_started_from_inside_is_no_way_out() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("inside-launcher");
    let file = secret("inside-launcher");
    let launcher = actor::installed("launcher").to_string_lossy().into_owned();
    let directory = cgroup.directory().to_string_lossy().into_owned();
    let attack = op(&["exec", &launcher, &directory, "--touch", &file, "--", &program(), "true"]);
    let bare = actor::run(Place::Joining(&cgroup), std::slice::from_ref(&attack)).unwrap();
    assert_eq!(bare[0].detail, "exit 0", "without a policy");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("inside-launcher", &cgroup)
        .allow("exec.allow", &launcher)
        .allow("file.read", "/proc/**")
        .allow("file.write", &format!("{directory}/cgroup.procs"));
    enforcer.apply(&[&policy]);
    let mark = enforcer.mark();
    let reports = actor::run(Place::Joining(&cgroup), &[attack]).unwrap();
    let events = enforcer.events_since(mark);
    assert_eq!(reports[0].detail, "exit 72", "{}", evidence(&reports, &events));
}

#[test]
fn a_mode_change_holds_for_tasks_that_run() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("modes");
    let file = secret("modes");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("modes", &cgroup);
    enforcer.apply(&[&policy.clone().audit()]);
    let mut actor = Actor::start(Place::Joining(&cgroup)).unwrap();
    assert!(actor.perform(&["open-read", &file]).ok, "audit mode");
    enforcer.apply(&[&policy]);
    assert!(actor.perform(&["open-read", &file]).refused(), "enforce mode");
    enforcer.apply(&[&policy.audit()]);
    assert!(actor.perform(&["open-read", &file]).ok, "audit mode again");
}

/// Two policies side by side: each judges its own.
#[test]
fn policies_do_not_lend_each_other_rights() {
    let mut enforcer = Enforcer::ready();
    let (left, right) = (Cgroup::create("left"), Cgroup::create("right"));
    let (file_left, file_right) = (secret("left-file"), secret("right-file"));
    if baseline_only() {
        return;
    }
    enforcer.apply(&[
        &Policy::of("left", &left).allow("file.read", &file_left),
        &Policy::of("right", &right).allow("file.read", &file_right),
    ]);
    assert!(may_read(Place::Joining(&left), &file_left));
    assert!(!may_read(Place::Joining(&left), &file_right));
    assert!(may_read(Place::Joining(&right), &file_right));
    assert!(!may_read(Place::Joining(&right), &file_left));
}
