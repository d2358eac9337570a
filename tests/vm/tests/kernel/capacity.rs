//! Policies of realistic and unrealistic size.

use std::fs;
use std::time::Instant;

use enforcer_vm_tests::actor::{self, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;

const EXACT: usize = 10_000;
const GLOBS: usize = 500;

#[test]
fn ten_thousand_names_and_five_hundred_patterns() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("large");
    let root = format!("{SCRATCH}/large");
    let _ = fs::remove_dir_all(&root);
    let mut ops = Vec::new();
    let mut expected = Vec::new();
    let mut ask = |path: String, allowed: bool| {
        fs::create_dir_all(path.rsplit_once('/').unwrap().0).unwrap();
        fs::write(&path, "").unwrap();
        ops.push(op(&["open-read", &path]));
        expected.push(allowed);
    };
    for index in (0..EXACT).step_by(97) {
        ask(format!("{root}/exact/{}/file-{index}.txt", index % 61), true);
        ask(format!("{root}/exact/{}/file-{index}.txt", index % 61 + 1), false);
        ask(format!("{root}/exact/{}/file-{index}.txt~", index % 61), false);
    }
    for index in (0..GLOBS).step_by(7) {
        ask(format!("{root}/glob/service-{index}/conf.d/deep/er/x.conf"), true);
        ask(format!("{root}/glob/service-{index}/conf.d/x.conf"), true);
        ask(format!("{root}/glob/service-{index}/conf.d/x.cong"), false);
        ask(format!("{root}/glob/service-{index}0000/conf.d/x.conf"), false);
    }
    let bare = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    assert!(bare.iter().all(|report| report.ok), "without a policy");
    if baseline_only() {
        return;
    }
    let mut policy = Policy::of("large", &cgroup);
    let exact: Vec<String> =
        (0..EXACT).map(|index| format!("{root}/exact/{}/file-{index}.txt", index % 61)).collect();
    let globs: Vec<String> =
        (0..GLOBS).map(|index| format!("{root}/glob/service-{index}/conf.d/**/*.conf")).collect();
    policy = policy.allow_many("file.read", exact.into_iter().chain(globs));
    let started = Instant::now();
    enforcer.apply(&[&policy]);
    println!("{EXACT} names and {GLOBS} patterns applied in {:?}", started.elapsed());
    let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    for (report, expected) in reports.iter().zip(expected) {
        assert!(report.ok == expected && (report.ok || report.refused()), "expected {expected}: {report:?}");
    }
    enforcer.apply(&[]);
    let _ = fs::remove_dir_all(&root);
}
