//! The shipped unit with `deploy/seal.conf`, on a machine that is sealed: process 1 does not end the daemon, starts a successor
//! when it dies, and goes on with its other work.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use enforcer_vm_tests::actor::{self, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only, shown};
use enforcer_vm_tests::events::{Event, EventLog, Mark};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::trust::{ANCHORS, Sealer};
use enforcer_vm_tests::units::{self, Running, UnitFile};
use enforcer_vm_tests::wait;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::shipped_unit::{Installed, POLICIES, PROGRAM, UNIT};

const SEAL: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/seal.conf"));
const STATE: &str = "/var/lib/enforcer";
const EVENT_LOG: &str = "/var/log/enforcer/events.jsonl";

/// A cgroup above the daemon's with nobody else in it.
const SLICE: &str = "sealed.slice";
const LIMIT: &str = "/sys/fs/cgroup/sealed.slice/memory.max";

/// How long the daemon may take to be ready, or to be given up.
const READY: Duration = Duration::from_secs(120);

/// What systemd has for services that shall do no harm, and a command that fails where it is not in force.
const BOXED: &str = "[Service]\nType=oneshot\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\n\
     PrivateMounts=yes\nPrivateNetwork=yes\nProtectControlGroups=yes\nProtectKernelTunables=yes\nProtectKernelModules=yes\n\
     ProtectClock=yes\nProtectHostname=yes\nProtectProc=invisible\nRestrictNamespaces=yes\nMemoryDenyWriteExecute=yes\n\
     SystemCallFilter=@system-service\nReadOnlyPaths=/etc\nInaccessiblePaths=/etc/enforcer /sys/fs/bpf\n\
     TemporaryFileSystem=/var/lib\n\
     ExecStart=/bin/sh -ec 'touch /tmp/boxed; test ! -e /tmp/vm-tests; test ! -w /etc; test ! -e /etc/enforcer/anchors.toml; \
     test ! -e /sys/fs/bpf/enforcer; test ! -e /var/lib/enforcer'\n";

/// A machine whose daemon is the shipped unit with what is shipped for sealing, and takes signed policies alone. Unsealed, and as
/// it was, when this is dropped.
struct Machine {
    anchors: Vec<u8>,
    workload: Cgroup,
    secret: String,
    installed: Option<(Installed, UnitFile)>,
    _turn: Enforcer,
}

impl Machine {
    fn start(name: &str) -> Self {
        let mut enforcer = Enforcer::ready();
        enforcer.kill_daemon();
        let (workload, secret) = (Cgroup::create(name), format!("{SCRATCH}/{name}"));
        fs::write(&secret, "").unwrap();
        let anchors = fs::read(ANCHORS).unwrap();
        let sealer = sealer();
        fs::write(sealer.policies().join("app.toml"), Policy::of("app", &workload).to_toml()).unwrap();
        fs::remove_file(ANCHORS).unwrap();
        sealer.write_anchors(ANCHORS);
        let installed =
            (Installed::with_options("", &format!("Slice={SLICE}\n")), UnitFile::second_drop_in(UNIT, SEAL));
        let machine = Self { anchors, workload, secret, installed: Some(installed), _turn: enforcer };
        let _ = deliver(None);
        units::tell("start", UNIT);
        machine.is_well();
        machine
    }

    /// Has the unit take a bundle that says this about the seal.
    fn put(seal: &str) {
        let version = deliver(Some(seal));
        units::tell("reload", UNIT);
        is_in_force(version);
    }

    /// The daemon runs in the unit, and its policy is in force.
    fn is_well(&self) {
        wait::until("the daemon to be ready", READY, || {
            let says = units::property(UNIT, "StatusText");
            (units::is_active(UNIT) && says.contains("enforcing with")).then_some(())
        });
        assert_eq!(status()["daemon"], true, "{}", status());
        self.is_enforced();
    }

    fn is_enforced(&self) {
        let reports =
            actor::run(Place::Joining(&self.workload), &[op(&["open-read", &self.secret])]).unwrap();
        assert!(reports[0].refused(), "{reports:?}");
    }

    /// Another process is the unit's daemon.
    fn has_another(&self, than: Pid) -> Pid {
        let other = wait::until("another daemon", READY, || {
            Some(daemon()).filter(|pid| *pid != than && pid.as_raw() != 0 && units::is_active(UNIT))
        });
        self.is_well();
        assert_eq!(daemon(), other, "it stays: {}", units::state(UNIT));
        other
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if is_sealed() {
            // A test that failed in between.
            let _ = fs::write(LIMIT, "max");
            let _ = units::systemctl(&["start", UNIT]);
            unseal_by_hand();
        }
        drop(self.installed.take());
        let _ = units::systemctl(&["stop", SLICE]);
        let _ = units::systemctl(&["reset-failed", UNIT]);
        fs::write(ANCHORS, &self.anchors).unwrap();
        fs::remove_dir_all(STATE).unwrap();
    }
}

fn sealer() -> Sealer {
    Sealer::at(Path::new(SCRATCH).join("sealed-office"))
}

/// Signs the next version and puts it where the daemon takes it from.
fn deliver(seal: Option<&str>) -> u64 {
    let version = sealer().sign(seal);
    sealer().deliver(version, Path::new(POLICIES));
    version
}

fn is_in_force(version: u64) {
    wait::until("the bundle to be in force", wait::SOON, || {
        (status()["standing"]["version"] == version).then_some(())
    });
}

/// As a reload, where systemd takes the unit for stopped.
fn unseal_by_hand() {
    let keeper = status()["seal"]["daemon"].as_i64().unwrap();
    let version = deliver(Some("off"));
    kill(Pid::from_raw(keeper.try_into().unwrap()), Signal::SIGHUP).unwrap();
    is_in_force(version);
}

/// By the daemon's own program: while sealed the kernel tells no other.
fn status() -> Value {
    let mut command = Command::new(PROGRAM);
    let output = command.args(["status", "--format", "json"]).stdin(Stdio::null()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)))
}

fn is_sealed() -> bool {
    !status()["seal"].is_null()
}

/// The machine is sealed, and by the kernel's account this process is its daemon.
fn is_sealed_by(pid: Pid) {
    let status = status();
    assert_eq!(status["seal"]["daemon"], pid.as_raw(), "{status}");
    assert_eq!((&status["daemon"], &status["healthy"]), (&true.into(), &true.into()), "{status}");
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).unwrap(), Path::new(PROGRAM));
    let _ = is_refused_to_kill(pid, log().mark());
}

/// Root does not kill the daemon. Returns what has been refused since the mark, which ends with this: the kernel hands events out
/// in order.
fn is_refused_to_kill(daemon: Pid, since: Mark) -> Vec<Event> {
    assert_eq!(kill(daemon, Signal::SIGKILL), Err(Errno::EPERM), "root kills the daemon");
    let ours = |event: &Event| {
        event.text("hook") == "task_kill" && event.number("pid") == Some(std::process::id().into())
    };
    wait::until("the event of a refusal", wait::SOON, || {
        Some(log().since(since)).filter(|events| events.iter().any(ours))
    })
}

fn log() -> EventLog {
    EventLog::at(Path::new(EVENT_LOG))
}

/// The unit's process, as systemd sees it.
fn daemon() -> Pid {
    Pid::from_raw(units::property(UNIT, "MainPID").parse().unwrap())
}

/// Services in sandboxes of systemd's are started, root's and a dynamic user's, and nothing is refused to them.
fn services_start(daemon: Pid) {
    let mark = log().mark();
    // Each of these has systemd read its units anew.
    let (root, user) = ("boxed-root.service", "boxed-user.service");
    let _root = UnitFile::unit(root, BOXED);
    let _user = UnitFile::unit(user, &format!("{BOXED}DynamicUser=yes\nStateDirectory=boxed\n"));
    for unit in [root, user] {
        let _running = Running::start(unit);
        assert_eq!(units::property(unit, "Result"), "success", "{}", units::state(unit));
    }
    let events = is_refused_to_kill(daemon, mark);
    // On Linux 6.1 a task is asked about when it gets another cpuset, also one with the same processors: while sealed nobody turns
    // that controller on above the daemon, and systemd tries to.
    let cpusets =
        |event: &&Event| event.number("pid") == Some(1) && event.text("hook") == "task_setscheduler";
    let others: Vec<_> =
        events.iter().filter(|event| !cpusets(event) && event.text("hook") != "task_kill").collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// What is refused once the machine is sealed works before, and again once it is unsealed.
#[test]
fn a_daemon_that_dies_is_succeeded_and_services_start() {
    if baseline_only() {
        return;
    }
    let machine = Machine::start("sealed-life");
    let first = daemon();
    kill(first, Signal::SIGKILL).expect("it is not sealed");
    let second = machine.has_another(first);
    units::tell("restart", UNIT);
    let third = machine.has_another(second);

    Machine::put("on");
    is_sealed_by(third);
    services_start(third);

    // The kernel ends the daemon for want of memory in a cgroup above its own, which nobody is kept from setting.
    fs::write(LIMIT, "100000").unwrap();
    wait::until("the end of the daemon", READY, || (daemon() != third).then_some(()));
    assert!(is_sealed(), "{}", status());
    machine.is_enforced();
    fs::write(LIMIT, "max").unwrap();
    let successor = machine.has_another(third);
    is_sealed_by(successor);
    services_start(successor);

    Machine::put("off");
    assert!(!is_sealed(), "{}", status());
    units::tell("restart", UNIT);
    let last = machine.has_another(successor);
    kill(last, Signal::SIGKILL).expect("it is not sealed");
    let _ = machine.has_another(last);
}

/// Process 1 may not signal the daemon either. It gives up, and the daemon goes on until it is unsealed.
#[test]
fn systemctl_stop_returns_and_the_daemon_goes_on() {
    if baseline_only() {
        return;
    }
    let machine = Machine::start("sealed-stop");
    let keeper = daemon();
    Machine::put("on");
    is_sealed_by(keeper);

    let began = Instant::now();
    units::tell("stop", UNIT);
    println!("stopped after {:?}", began.elapsed());
    assert!(began.elapsed() < READY, "{:?}", began.elapsed());
    assert!(!units::is_active(UNIT), "{}", units::state(UNIT));
    is_sealed_by(keeper);
    machine.is_enforced();
    services_start(keeper);

    unseal_by_hand();
    assert!(!is_sealed(), "{}", status());
    kill(keeper, Signal::SIGKILL).expect("it is not sealed");
    wait::until("its end", wait::SOON, || (kill(keeper, None) == Err(Errno::ESRCH)).then_some(()));
    units::tell("start", UNIT);
    let _ = machine.has_another(keeper);
}
