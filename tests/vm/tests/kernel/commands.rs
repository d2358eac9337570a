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

/// The kernel's models of preemption, and in brackets the one that it follows.
const MODEL: &str = "/sys/kernel/debug/sched/preempt";

/// Where programs may be preempted at task storage, and then find nothing in it, enforcement does not start.
#[test]
fn an_old_kernel_that_preempts_is_refused() {
    if baseline_only() {
        return;
    }
    let models = std::fs::read_to_string(MODEL).expect("the kernel is built with PREEMPT_DYNAMIC");
    let is = models.split(['(', ')']).nth(1).expect("one of them is in brackets").to_owned();
    let under = |model: &str| {
        std::fs::write(MODEL, model).expect("changing the model");
        let output = enforcer::run(&["probe", "--load"]);
        (output.status.success(), shown(&output))
    };
    let (starts, said) = under("full");
    let (starts_again, said_again) = under(&is);
    assert!(starts_again, "{said_again}");
    let is_old = std::env::var("ENFORCER_VM_KERNEL").is_ok_and(|kernel| kernel.starts_with("6.1."));
    assert_eq!(starts, !is_old, "{said}");
    if is_old {
        assert!(said.contains("is fully preemptible") && said.contains("preempt=voluntary"), "{said}");
    }
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
