//! Debian's nginx under `policy-examples/nginx.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use enforcer_vm_tests::actor;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::events::{Event, Mark};
use enforcer_vm_tests::http;
use enforcer_vm_tests::scenario::copy_of_actor;
use enforcer_vm_tests::units::{self, Running, UnitFile};
use enforcer_vm_tests::wait;

const UNIT: &str = "nginx.service";
const SERVER: &str = "127.0.0.1:80";
const POLICY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/nginx.toml"));
const REQUESTS: usize = 1000;

fn policy() -> PathBuf {
    let file = Path::new(SCRATCH).join("nginx.toml");
    fs::create_dir_all(SCRATCH).unwrap();
    fs::write(&file, POLICY).unwrap();
    file
}

/// Asks for Debian's page and for one that is not there.
fn ask(count: usize) {
    for request in 0..count {
        let answer = http::get(SERVER, "/").unwrap_or_else(|error| panic!("request {request}: {error}"));
        assert_eq!(answer.status, 200, "request {request}: {answer:?}");
        assert!(answer.body.contains("nginx"), "request {request}: {answer:?}");
    }
    assert_eq!(http::get(SERVER, "/missing").unwrap().status, 404);
}

fn assert_no_denials(enforcer: &mut Enforcer, since: Mark, when: &str) {
    let events = enforcer.events_since(since);
    assert!(events.is_empty(), "denials {when}:\n{}", lines(&events));
}

fn lines(events: &[Event]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

#[test]
fn nginx_works_through_its_whole_life_without_a_false_denial() {
    let mut enforcer = Enforcer::ready();
    if !baseline_only() {
        enforcer.apply_files(&[policy()]);
    }
    let mark = enforcer.mark();
    let mut check = |when: &str| {
        if !baseline_only() {
            assert_no_denials(&mut enforcer, mark, when);
        }
    };
    let nginx = Running::start(UNIT);
    check("at start");
    let started = Instant::now();
    ask(REQUESTS);
    println!("{REQUESTS} requests in {:?}", started.elapsed());
    check("while serving");

    units::tell("reload", UNIT);
    ask(50);
    check("after reload");

    rotate_logs();
    ask(50);
    check("after log rotation");

    units::tell("restart", UNIT);
    ask(50);
    check("after restart");

    drop(nginx);
    check("at stop");
}

/// `logrotate` with Debian's own configuration: renames the logs and has nginx open new ones.
fn rotate_logs() {
    let log = Path::new("/var/log/nginx/access.log");
    // Debian rotates only what is not empty, and the requests above are in the log.
    wait::until("the access log to fill", wait::SOON, || fs::metadata(log).ok().filter(|log| log.len() > 0));
    let output = Command::new("logrotate").args(["--force", "/etc/logrotate.d/nginx"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(Path::new("/var/log/nginx/access.log.1").exists(), "nothing was rotated");
    // The workers open the new log on a signal; a request that appears there proves it.
    wait::until("a request in the new log", wait::SOON, || {
        ask(1);
        fs::metadata(log).ok().filter(|log| log.len() > 0)
    });
}

/// The policy holds from the first instruction of whatever the unit starts, at every start.
#[test]
fn an_implant_in_the_unit_file_does_not_start() {
    let mut enforcer = Enforcer::ready();
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    let implant = copy_of_actor(&Path::new(SCRATCH).join("implant"));
    let marker = Path::new("/run/implant-was-here");
    let drop_in =
        format!("[Service]\nExecStartPre={} open-create-any {}\n", implant.display(), marker.display());
    // Type=oneshot-like: without a policy the implant runs and nginx starts.
    let _ = fs::remove_file(marker);
    {
        let _drop_in = UnitFile::drop_in(UNIT, &drop_in);
        let _nginx = Running::start(UNIT);
        assert!(marker.exists(), "without a policy the implant runs");
    }
    if baseline_only() {
        return;
    }
    fs::remove_file(marker).unwrap();
    enforcer.apply_files(&[policy()]);
    let mark = enforcer.mark();
    {
        let _drop_in = UnitFile::drop_in(UNIT, &drop_in);
        let output = units::systemctl(&["start", UNIT]);
        assert!(!output.status.success(), "the unit started: {}", units::state(UNIT));
        assert!(!marker.exists(), "the implant ran");
        let events = enforcer.events_since(mark);
        let [event] = events.as_slice() else { panic!("one event, please:\n{}", lines(&events)) };
        assert_eq!(event.text("hook"), "bprm_check_security", "{event}");
        assert_eq!(event.text("unit"), UNIT, "{event}");
        assert_eq!(event.object("path"), implant.to_string_lossy(), "{event}");
    }
    let _ = units::systemctl(&["reset-failed", UNIT]);
    // Without the implant it starts, and is still enforced: a worker's cgroup refuses what is not listed.
    let _nginx = Running::start(UNIT);
    ask(1);
    let cgroup = units::property(UNIT, "ControlGroup");
    let joined = join_and_run(&cgroup, &implant);
    assert_eq!(
        joined.unwrap_err().raw_os_error(),
        Some(libc::EPERM),
        "an unlisted program in nginx's cgroup"
    );
}

/// Starts a program in a cgroup that systemd made.
fn join_and_run(cgroup: &str, program: &Path) -> std::io::Result<std::process::ExitStatus> {
    use std::io::Write as _;
    use std::os::unix::process::CommandExt as _;
    let procs =
        fs::OpenOptions::new().write(true).open(format!("/sys/fs/cgroup{cgroup}/cgroup.procs")).unwrap();
    let mut command = Command::new(program);
    command.arg("true");
    // SAFETY: write(2) is async-signal-safe.
    unsafe { command.pre_exec(move || (&procs).write_all(b"0")) };
    command.status()
}

/// A unit that ran before it had a policy is stopped and started like any other: its processes belong to the workload
/// although none of them has met a hook since.
#[test]
fn a_unit_that_ran_before_its_policy_restarts_without_a_false_denial() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[]);
    let _nginx = Running::start(UNIT);
    ask(1);
    let mark = enforcer.mark();
    enforcer.apply_files(&[policy()]);
    units::tell("restart", UNIT);
    ask(10);
    assert_no_denials(&mut enforcer, mark, "after a restart under a new policy");
}

/// The daemon may die; the unit stays enforced, also when it is started anew.
#[test]
fn nginx_stays_enforced_without_the_daemon() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let implant = copy_of_actor(&Path::new(SCRATCH).join("implant"));
    enforcer.apply_files(&[policy()]);
    let _nginx = Running::start(UNIT);
    enforcer.kill_daemon();
    ask(10);
    units::tell("restart", UNIT);
    ask(10);
    let cgroup = units::property(UNIT, "ControlGroup");
    assert_eq!(join_and_run(&cgroup, &implant).unwrap_err().raw_os_error(), Some(libc::EPERM));
    enforcer.start_daemon();
    enforcer.apply_files(&[policy()]);
    let mark = enforcer.mark();
    units::tell("restart", UNIT);
    ask(10);
    assert_no_denials(&mut enforcer, mark, "after the daemon came back");
    assert!(actor::find("enforcer").is_some());
}
