//! What every other test of the suite takes for granted.

use std::fs;
use std::process::Command;

#[test]
fn the_requested_kernel_runs() {
    let requested = std::env::var("ENFORCER_VM_KERNEL").expect("set by the VM harness");
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(running.trim(), requested);
}

#[test]
fn systemd_is_pid_1() {
    assert_eq!(fs::read_to_string("/proc/1/comm").unwrap().trim(), "systemd");
}

#[test]
fn bpf_is_an_active_lsm() {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap();
    assert!(modules.trim().split(',').any(|module| module == "bpf"), "active: {modules}");
}

#[test]
fn a_unit_can_be_started() {
    assert!(fs::metadata("/usr/sbin/nginx").unwrap().is_file());
    let systemctl =
        |verb: &str| Command::new("systemctl").args(["--quiet", verb, "nginx.service"]).status().unwrap();
    assert!(systemctl("start").success());
    assert!(systemctl("is-active").success());
    assert!(systemctl("stop").success());
}
