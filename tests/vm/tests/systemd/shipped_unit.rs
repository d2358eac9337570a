//! The unit file as it is shipped, with all its restrictions.

use std::fs;
use std::path::Path;
use std::process::Command;

use enforcer_vm_tests::actor::{self, Place, installed, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, SIZES, baseline_only, run, shown};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::units::{self, UnitFile};
use enforcer_vm_tests::wait;

pub(crate) const UNIT: &str = "enforcer.service";
/// Where the unit has its program.
pub(crate) const PROGRAM: &str = "/usr/bin/enforcer";
const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/enforcer.service"));
pub(crate) const POLICIES: &str = "/etc/enforcer/policies.d";

/// The program where the unit file has it, and a policy; gone when this is dropped.
pub(crate) struct Installed {
    _unit: UnitFile,
    _options: UnitFile,
}

impl Installed {
    fn new() -> Self {
        Self::with("")
    }

    /// With more lines in the drop-in's section about the service.
    pub(crate) fn with(lines: &str) -> Self {
        Self::with_options("--insecure-unsigned", lines)
    }

    /// The same, with other options for the daemon.
    pub(crate) fn with_options(options: &str, lines: &str) -> Self {
        fs::copy(installed("enforcer"), PROGRAM).unwrap();
        fs::create_dir_all(POLICIES).unwrap();
        let options = format!("{options} {}", SIZES.join(" "));
        Self {
            _unit: UnitFile::unit(UNIT, TEXT),
            _options: UnitFile::drop_in(
                UNIT,
                &format!("[Service]\nEnvironment=\"ENFORCER_OPTIONS={options}\"\n{lines}"),
            ),
        }
    }

    pub(crate) fn write(name: &str, policy: &Policy) {
        fs::write(Path::new(POLICIES).join(format!("{name}.toml")), policy.to_toml()).unwrap();
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = units::systemctl(&["stop", UNIT]);
        let _ = fs::remove_dir_all(POLICIES);
        let _ = fs::remove_file(PROGRAM);
    }
}

fn refused(cgroup: &Cgroup, file: &str) -> bool {
    let reports = actor::run(Place::Joining(cgroup), &[op(&["open-read", file])]).unwrap();
    reports[0].refused()
}

#[test]
fn the_daemon_does_all_its_work_within_the_shipped_unit() {
    if baseline_only() {
        return;
    }
    let mut enforcer = Enforcer::ready();
    let (first, second) = (Cgroup::create("shipped-first"), Cgroup::create("shipped-second"));
    fs::create_dir_all(SCRATCH).unwrap();
    let secret = format!("{SCRATCH}/shipped-secret");
    fs::write(&secret, "").unwrap();
    enforcer.kill_daemon();
    let installed = Installed::new();
    Installed::write("first", &Policy::of("first", &first));

    units::tell("start", UNIT);
    assert!(refused(&first, &secret));
    assert!(!refused(&second, &secret));
    let pid = units::property(UNIT, "MainPID");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    let capabilities = u64::from_str_radix(bounding, 16).unwrap();
    assert!(capabilities.count_ones() < 8, "the unit keeps capabilities: {bounding}");

    // A reload takes in a new policy, in the same process.
    Installed::write("second", &Policy::of("second", &second));
    units::tell("reload", UNIT);
    wait::until("the second policy", wait::SOON, || refused(&second, &secret).then_some(()));
    assert_eq!(units::property(UNIT, "MainPID"), pid);

    // A broken policy changes nothing.
    fs::write(Path::new(POLICIES).join("third.toml"), "policy = ").unwrap();
    let _ = units::systemctl(&["reload", UNIT]);
    assert!(refused(&first, &secret) && refused(&second, &secret));
    fs::remove_file(Path::new(POLICIES).join("third.toml")).unwrap();

    // Killed, it comes back by itself, and nothing was open meanwhile.
    let _ = units::systemctl(&["kill", "--signal=KILL", UNIT]);
    wait::until("another process", wait::SOON, || {
        assert!(refused(&first, &secret), "open while the daemon was away");
        let now = units::property(UNIT, "MainPID");
        (now != pid && now != "0" && units::is_active(UNIT)).then_some(())
    });
    assert!(refused(&second, &secret));

    // Stopped, enforcement stays; `status` sees it.
    units::tell("stop", UNIT);
    assert!(refused(&first, &secret));
    let output = run(&["status"]);
    assert!(shown(&output).contains("second"), "{}", shown(&output));
    drop(installed);
    enforcer.start_daemon();
    enforcer.barrier();
}

/// systemd's own judgement: 0 is the safest, 10 the least safe; printed with one decimal, compared without.
#[test]
fn the_unit_is_hardened() {
    let file = Path::new("/run/hardening").join(UNIT);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, TEXT).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold=30"]).arg(&file);
    let output = analyze.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "exposed by more than 3.0: {}", shown(&output));
}
