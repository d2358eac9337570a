//! What the command line says about itself.

use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{self, Enforcer, baseline_only, shown, write_policy};
use enforcer_vm_tests::policy::Policy;
use serde_json::Value;

#[test]
fn probe_reports_this_kernel() {
    if baseline_only() {
        return;
    }
    let output = enforcer::run(&["probe", "--format", "json"]);
    assert!(output.status.success(), "{}", shown(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("probe prints JSON");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(report.to_string().contains(release.trim()), "no kernel release in {report}");
    let text = enforcer::run(&["probe"]);
    assert!(text.status.success() && !text.stdout.is_empty(), "{}", shown(&text));
}

#[test]
fn status_shows_what_is_in_force_and_that_it_is_unsigned() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("status");
    enforcer.apply(&[&Policy::of("shown-by-status", &cgroup)]);
    let status = enforcer.status().to_string();
    assert!(status.contains("shown-by-status"), "{status}");
    assert!(status.contains("unsigned"), "{status}");
    enforcer.apply(&[]);
    let status = enforcer.status().to_string();
    assert!(!status.contains("shown-by-status"), "{status}");
}

#[test]
fn check_tells_good_from_bad() {
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("checked");
    let good = write_policy(&Policy::of("good", &cgroup));
    let output = enforcer::run(&["check", &good.to_string_lossy()]);
    assert!(output.status.success(), "{}", shown(&output));
    let bad = good.with_file_name("bad.toml");
    std::fs::write(&bad, "policy = \"bad\"\n[workload]\ncgroup = \"/x\"\n[fiel]\nread = [\"relative\"]\n")
        .unwrap();
    let output = enforcer::run(&["check", &bad.to_string_lossy()]);
    assert!(!output.status.success(), "{}", shown(&output));
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("bad.toml:4") && said.contains("fiel"), "names the place: {said}");
}

/// Nothing is installed without the consent that the option stands for.
#[test]
fn an_unsigned_policy_needs_consent() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("consent");
    enforcer.apply(&[]);
    let before = enforcer_vm_tests::pins::policy_maps();
    let file = write_policy(&Policy::of("consent", &cgroup));
    let output = enforcer::run(&["apply", &file.to_string_lossy()]);
    assert!(!output.status.success(), "{}", shown(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unsigned"), "{}", shown(&output));
    assert!(before == enforcer_vm_tests::pins::policy_maps(), "the maps have changed");
}

/// Forgetting a file on the command line is not how one turns a policy off.
#[test]
fn a_policy_is_not_removed_by_accident() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("kept");
    enforcer.apply(&[&Policy::of("kept", &cgroup)]);
    let other = write_policy(&Policy::of("other", &cgroup.child("other")));
    let output = enforcer::run(&["apply", "--insecure-unsigned", &other.to_string_lossy()]);
    assert!(!output.status.success(), "{}", shown(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("kept"), "{}", shown(&output));
    assert!(enforcer.status().to_string().contains("\"kept\""));
}
