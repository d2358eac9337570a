//! The seal: root of the host, outside every workload, gets at nothing of the enforcer's own either, until a signed bundle says
//! so.
//!
//! Each operation is done three times by a task that is under no policy: before the machine is sealed, on something that is like
//! ours and is nobody's (or on ours, where that does no harm), where it succeeds; while it is sealed, where it is refused with
//! an event; and once it is unsealed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use enforcer_common::maps;
use enforcer_vm_tests::actor::{self, Actor, Op, Place, installed, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{
    self, Enforcer, SCRATCH, SIZES, baseline_only, log_file, shown, start_until_ready, write_policy,
};
use enforcer_vm_tests::pins;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::report::Report;
use enforcer_vm_tests::trust::Sealer;
use enforcer_vm_tests::{shared_object, wait};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::protected::{
    Bystander, make_decoy, mount_decoy, on_files, on_mount, on_our_mounts, on_process, remove_decoy,
    show_pins, words,
};

const ANCHORS: &str = "/etc/enforcer/seal-anchors.toml";
const POLICIES: &str = "/etc/enforcer/seal.d";
fn sealer() -> Sealer {
    Sealer::at(Path::new(SCRATCH).join("seal-office"))
}

/// A machine with a daemon of its own, which takes signed policies alone. Unsealed again when this is dropped.
struct Machine {
    enforcer: Enforcer,
    root: Actor,
    daemon: Child,
    /// The daemon is in a cgroup of its own inside.
    above: Cgroup,
    home: Cgroup,
    workload: Cgroup,
}

impl Machine {
    fn start(name: &str) -> Self {
        let mut enforcer = Enforcer::ready();
        let (above, workload) = (Cgroup::create(&format!("{name}-daemon")), Cgroup::create(name));
        let home = above.child("home");
        let sealer = sealer();
        fs::create_dir_all(POLICIES).unwrap();
        if !Path::new(ANCHORS).exists() {
            sealer.write_anchors(ANCHORS);
        }
        let policy = Policy::of("seal-workload", &workload);
        for file in [enforcer.sentinel_policy(), write_policy(&policy)] {
            fs::copy(&file, sealer.policies().join(file.file_name().unwrap())).unwrap();
        }
        deliver(sealer.sign(None));
        enforcer.kill_daemon();
        let daemon = start_until_ready(&mut daemon(&home), &output()).unwrap();
        let root = Actor::start(Place::Host).unwrap();
        Self { enforcer, root, daemon, above, home, workload }
    }

    fn sealed(name: &str) -> Self {
        let machine = Self::start(name);
        machine.put(Some("on"));
        assert!(machine.is_sealed(), "{}", status());
        machine
    }

    /// Has the daemon take a bundle that says this about the seal.
    fn put(&self, seal: Option<&str>) {
        let version = sealer().sign(seal);
        deliver(version);
        self.reload();
        wait::until("the bundle to be in force", wait::SOON, || {
            (status()["standing"]["version"] == version).then_some(())
        });
    }

    fn reload(&self) {
        kill(self.pid(), Signal::SIGHUP).expect("to have it reload is no harm");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.daemon.id().try_into().unwrap())
    }

    fn is_sealed(&self) -> bool {
        !status()["seal"].is_null()
    }

    /// Nobody minds, and there is no event.
    fn succeeds(&mut self, words: &[&str]) {
        let mark = self.enforcer.mark();
        let report = self.perform(words);
        assert!(report.ok, "{report:?}");
        let events = self.enforcer.events_since(mark);
        assert!(events.is_empty(), "{words:?}: {events:#?}");
    }

    /// It is refused to the host, and each event says that it is ours.
    fn is_refused(&mut self, words: &[&str]) {
        let mark = self.enforcer.mark();
        let report = self.perform(words);
        // Whoever asks procfs for memory is told EACCES.
        assert!(report.refused(), "{report:?}");
        let events = self.enforcer.events_since(mark);
        assert!(!events.is_empty(), "{words:?}: no event");
        for event in &events {
            let (reason, verdict) = (event.text("reason"), event.text("verdict"));
            assert_eq!((reason, verdict), ("protected", "denied"), "{words:?}: {event}");
            assert_eq!((event.text("policy"), event.suggestion().as_str()), ("", ""), "{event}");
        }
    }

    fn perform(&mut self, words: &[&str]) -> Report {
        if words[0].starts_with("overlay") || words[0] == "move-apart" {
            return actor::run(Place::Host, &[op(words)]).unwrap().remove(0);
        }
        self.root.perform(words)
    }

    /// The kernel ends the daemon for want of memory in a cgroup above its own, which nobody is kept from setting.
    fn exhaust(&mut self) {
        let limit = self.above.directory().join("memory.max");
        fs::write(&limit, "100000").unwrap();
        let status = wait::until("the end of the daemon", wait::SOON * 4, || self.daemon.try_wait().unwrap());
        assert!(!status.success(), "{status}");
        fs::write(&limit, "max").unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if matches!(self.daemon.try_wait(), Ok(Some(_))) && self.is_sealed() {
            // A test that failed in between.
            self.daemon = start_until_ready(&mut daemon(&self.home), &output()).unwrap();
        }
        if self.is_sealed() {
            self.put(Some("off"));
        }
        self.daemon.kill().expect("it is not sealed");
        let _ = self.daemon.wait();
        self.enforcer.start_daemon();
        fs::remove_dir_all(POLICIES).unwrap();
    }
}

fn output() -> PathBuf {
    Path::new(SCRATCH).join("sealed-daemon.log")
}

fn daemon(home: &Cgroup) -> Command {
    daemon_as(&installed("enforcer"), home)
}

/// The command that starts the daemon, by a program that may be another one.
fn daemon_as(program: &Path, home: &Cgroup) -> Command {
    let mut command = actor::command(Place::Joining(home), program);
    command.args(["run", "--policy-dir", POLICIES, "--anchors", ANCHORS, "--event-log"]).arg(log_file());
    command.args(SIZES).arg("--launcher").arg(installed("launcher"));
    command.stdin(Stdio::null());
    command
}

/// Puts a bundle where the daemon takes it from.
fn deliver(version: u64) {
    sealer().deliver(version, Path::new(POLICIES));
}

fn status() -> Value {
    let output = enforcer::run(&["status", "--format", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)))
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{why}: {}", shown(output));
}

#[test]
fn files_and_directories() {
    if baseline_only() {
        return;
    }
    let mut machine = Machine::sealed("seal-files");
    fs::create_dir_all("/var/lib/decoy").unwrap();
    for (ours, decoy, file) in [
        ("/etc/enforcer", "/etc/decoy", "anchors.toml"),
        ("/run/enforcer", "/run/decoy", "lock"),
        ("/var/lib/enforcer", "/var/lib/decoy", "highest.json"),
    ] {
        let file_of_ours = format!("{ours}/{file}");
        let inode = fs::metadata(&file_of_ours).unwrap();
        make_decoy(decoy, file);
        fs::write(format!("{ours}-planted"), "").unwrap();
        for attempt in on_files(decoy, file) {
            machine.succeeds(&words(&attempt));
        }
        for attempt in on_files(ours, file) {
            // Where nothing was renamed there is nothing to rename back.
            if attempt[0] == "rename" && attempt[1].ends_with("/renamed") {
                continue;
            }
            // What the host reads it may read, but for what others could be kept waiting with.
            if attempt[0].ends_with("-read") && ours != "/run/enforcer" {
                machine.succeeds(&words(&attempt));
                continue;
            }
            machine.is_refused(&words(&attempt));
        }
        let after = fs::metadata(&file_of_ours).unwrap();
        assert_eq!(
            (after.len(), after.modified().unwrap()),
            (inode.len(), inode.modified().unwrap()),
            "{file_of_ours}"
        );
        remove_decoy(decoy);
        fs::remove_file(format!("{ours}-planted")).unwrap();
        let _ = fs::remove_dir_all(format!("{ours}-work"));
    }
    // The log, the program, and what it has mapped.
    let log = log_file();
    let program = installed("enforcer");
    let library = mapped_library(machine.daemon.id());
    for (ours, by_writing) in [(&log, true), (&program, false), (&library, true)] {
        let ours = ours.to_str().unwrap();
        machine.succeeds(&["open-read", ours]);
        let writing = if by_writing { &["open-write", "truncate"][..] } else { &[] };
        for operation in writing.iter().chain(&["chmod", "setxattr", "unlink"]) {
            machine.is_refused(&[operation, ours]);
        }
        machine.is_refused(&["rename", ours, &format!("{ours}-elsewhere")]);
    }
    machine.put(Some("off"));
    assert!(!machine.is_sealed());
    machine.succeeds(&["chmod", "/etc/enforcer/anchors.toml"]);
    machine.succeeds(&["open-create", "/etc/enforcer/made"]);
    machine.succeeds(&["unlink", "/etc/enforcer/made"]);
    machine.succeeds(&["open-write", library.to_str().unwrap()]);
}

/// A library that a process has mapped.
fn mapped_library(process: u32) -> PathBuf {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let is_library = |line: &&str| line.contains(" r-xp ") && line.contains("libc.so");
    let line = maps.lines().find(is_library).expect("it has a C library");
    line.split_whitespace().last().unwrap().into()
}

#[test]
fn pins_and_objects() {
    if baseline_only() {
        return;
    }
    let mut machine = Machine::start("seal-pins");
    let objects = pins::own_objects();
    let link = pins::link_ids().into_iter().next().unwrap().0;
    let control = pins::directory().join("maps").join(maps::CONTROL);
    let control = control.to_str().unwrap();
    let by_id = |name: &str, id: u32| op(&[name, &id.to_string()]);
    let mut descriptors: Vec<Op> = objects.maps.iter().map(|id| by_id("map-by-id", *id)).collect();
    for (name, ids) in [("program-by-id", &objects.programs), ("link-by-id", &objects.links)] {
        descriptors.extend([ids.first().unwrap(), ids.last().unwrap()].map(|id| by_id(name, *id)));
    }
    descriptors.push(op(&["open-pin", control]));
    for attempt in &descriptors {
        machine.succeeds(&words(attempt));
    }
    machine.put(Some("on"));
    for attempt in &descriptors {
        machine.is_refused(&words(attempt));
    }
    // To read is enough to have a program of one's own write.
    assert_eq!(enforcer::run(&["status"]).status.code(), Some(0), "{}", status());
    let decoy = Path::new("/sys/fs/bpf/decoy");
    fs::create_dir_all(decoy.join("empty")).unwrap();
    let foreign = pins::Foreign::pinned(&decoy.join("map")).unwrap();
    machine.succeeds(&["map-by-id", &foreign.map_id().to_string()]);
    machine.succeeds(&["program-by-id", &foreign.program_id().to_string()]);
    machine.succeeds(&["unlink", "/sys/fs/bpf/decoy/map"]);
    fs::remove_dir_all(decoy).unwrap();
    let inside = |name: &str| pins::directory().join(name).to_str().unwrap().to_owned();
    machine.is_refused(&["chmod", control]);
    machine.is_refused(&["rename", control, "/sys/fs/bpf/CONTROL"]);
    machine.is_refused(&["unlink", control]);
    machine.is_refused(&["unlink", &link]);
    machine.is_refused(&["rename", &link, "/sys/fs/bpf/link"]);
    machine.is_refused(&["mkdir", &inside("links/made")]);
    machine.is_refused(&["rename", &inside("maps"), &inside("elsewhere")]);
    machine.is_refused(&["rename", "/sys/fs/bpf/enforcer", "/sys/fs/bpf/elsewhere"]);
    machine.put(Some("off"));
    for attempt in &descriptors {
        machine.succeeds(&words(attempt));
    }
}

#[test]
fn the_daemon() {
    if baseline_only() {
        return;
    }
    let mut machine = Machine::sealed("seal-daemon");
    let mut bystander = Bystander::start();
    for attempt in on_process(&bystander.id()) {
        machine.succeeds(&words(&attempt));
    }
    assert!(!bystander.0.wait().unwrap().success(), "it was killed");
    let daemon = machine.daemon.id().to_string();
    let harmless = |attempt: &Op| attempt[0] == "read" || (attempt[0] == "signal" && attempt[2] == "0");
    for attempt in on_process(&daemon) {
        if harmless(&attempt) {
            machine.succeeds(&words(&attempt));
        } else {
            machine.is_refused(&words(&attempt));
        }
    }
    machine.is_refused(&["signal", &daemon, "15"]);
    let home = machine.home.directory();
    let control = |directory: &Path, name: &str| directory.join(name).to_str().unwrap().to_owned();
    for name in ["cgroup.kill", "cgroup.freeze", "memory.max", "pids.max"] {
        if home.join(name).exists() {
            machine.is_refused(&["open-write", &control(&home, name)]);
        }
    }
    let above = machine.above.directory();
    machine.is_refused(&["open-write", &control(&above, "cgroup.freeze")]);
    machine.succeeds(&["open-write", &control(&home, "cgroup.procs")]);
    machine.succeeds(&["open-write", &control(&above, "cgroup.subtree_control")]);
    machine.put(Some("off"));
    machine.succeeds(&["signal", &daemon, "18"]);
    machine.succeeds(&["open-write", &format!("/proc/{daemon}/oom_score_adj")]);
    machine.succeeds(&["trace", &daemon]);
}

#[test]
fn mounts() {
    if baseline_only() {
        return;
    }
    let mut machine = Machine::sealed("seal-mounts");
    let (point, elsewhere) = mount_decoy("seal");
    for attempt in on_mount(&point, &elsewhere) {
        machine.succeeds(&words(&attempt));
    }
    for attempt in on_our_mounts(&point, &elsewhere) {
        machine.is_refused(&words(&attempt));
    }
    // Another mount of what is ours is made, shows the same files, and goes again.
    let (shown, map) = show_pins("seal");
    machine.is_refused(&["unlink", &map]);
    machine.is_refused(&["open-pin", &map]);
    machine.succeeds(&["unmount", &shown]);
    machine.put(Some("off"));
    machine.succeeds(&["mount-over", "/run/enforcer"]);
    machine.succeeds(&["mount-over", "/etc"]);
}

/// What service managers and container runtimes do all the time, in mount namespaces of their own.
#[test]
fn ordinary_work_goes_on() {
    if baseline_only() {
        return;
    }
    let mut machine = Machine::sealed("seal-work");
    let mark = machine.enforcer.mark();
    let apart = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)?;
        for path in ["/sys", "/etc", "/run", "/sys/fs/bpf", "/usr/local/bin"] {
            mount(Some("over"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
            umount2(path, MntFlags::MNT_DETACH)?;
        }
        umount2("/sys/fs/bpf", MntFlags::MNT_DETACH)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)?;
        mount(Some("over"), "/etc", Some("tmpfs"), MsFlags::empty(), None::<&str>)
    };
    let mut command = Command::new("/bin/true");
    // SAFETY: system calls alone, on constant paths.
    unsafe { command.pre_exec(move || apart().map_err(Into::into)) };
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    // Files beside ours, cgroups, processes, programs.
    let beside = format!("{SCRATCH}/seal-beside");
    for attempt in [
        &["open-create", &beside][..],
        &["chmod", &beside],
        &["rename", &beside, &format!("{beside}-2")],
        &["unlink", &format!("{beside}-2")],
        &["open-create", "/etc/seal-beside"],
        &["unlink", "/etc/seal-beside"],
        &["open-create", "/run/seal-beside"],
        &["unlink", "/run/seal-beside"],
    ] {
        machine.succeeds(attempt);
    }
    drop(machine.home.child("made-by-the-host"));
    let reports =
        actor::run(Place::Joining(&machine.workload), &[op(&["open-read", "/etc/passwd"])]).unwrap();
    assert!(reports[0].refused(), "a workload is under its policy: {reports:?}");
    let events = machine.enforcer.events_since(mark);
    let others: Vec<_> = events.iter().filter(|event| event.text("policy") != "seal-workload").collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn only_a_signed_bundle_unseals() {
    if baseline_only() {
        return;
    }
    let machine = Machine::sealed("seal-bundles");
    let in_force = status()["standing"]["version"].as_u64().unwrap();
    // Those that ask get an answer, and none of them its way.
    refused(&enforcer::run(&["unload", "--yes"]), "sealed");
    refused(&enforcer::run(&["apply", "--insecure-unsigned", POLICIES]), "sealed");
    let attempt = |what: &str, prepare: &dyn Fn()| {
        let said = || fs::read_to_string(output()).unwrap();
        let before = said().len();
        prepare();
        machine.reload();
        wait::until(what, wait::SOON, || {
            said().get(before..).is_some_and(|new| new.contains("refused")).then_some(())
        });
        assert!(machine.is_sealed(), "{what}: {}", status());
        assert_eq!(status()["standing"]["version"], in_force, "{what}");
    };
    attempt("an older version", &|| {
        sealer().sign_as(in_force - 1, Some("off"));
        deliver(in_force - 1);
    });
    attempt("the same version, with other words", &|| {
        sealer().sign_as(in_force, Some("off"));
        deliver(in_force);
    });
    attempt("a statement that was changed", &|| {
        let version = sealer().sign(Some("off"));
        deliver(version);
        let path = Path::new(POLICIES).join(Sealer::BUNDLE);
        let text = fs::read_to_string(&path).unwrap();
        let mut file: Value = serde_json::from_str(&text).unwrap();
        let payload = file["dsseEnvelope"]["payload"].as_str().unwrap().to_owned();
        let (front, rest) = payload.split_at(payload.len() / 2);
        let other = if rest.starts_with('A') { "B" } else { "A" };
        file["dsseEnvelope"]["payload"] = Value::String(format!("{front}{other}{}", &rest[1..]));
        fs::write(&path, file.to_string()).unwrap();
    });
    attempt("a policy that was changed", &|| {
        deliver(sealer().sign(Some("off")));
        fs::write(Path::new(POLICIES).join("seal-workload.toml"), "policy = \"x\"\n").unwrap();
    });
    attempt("no signature at all", &|| {
        deliver(sealer().sign(None));
        fs::remove_file(Path::new(POLICIES).join(Sealer::BUNDLE)).unwrap();
    });
    // Nothing about the seal leaves it as it is.
    machine.put(None);
    assert!(machine.is_sealed());
    assert_eq!(status()["seal"]["version"], status()["standing"]["version"]);
    machine.put(Some("off"));
    assert!(!machine.is_sealed());
    // Sealing takes a signature as well: `apply` has nothing to do with it.
    let version = sealer().sign(Some("on"));
    deliver(version);
    refused(&enforcer::run(&["apply", "--anchors", ANCHORS, "--prune", POLICIES]), "seals");
    assert!(!machine.is_sealed());
}

#[test]
fn the_daemon_is_succeeded_by_its_own_program_alone() {
    if baseline_only() {
        return;
    }
    let mut machine = Machine::start("seal-successor");
    let controllers = machine.above.directory().join("../../cgroup.subtree_control");
    for directory in [controllers, machine.above.directory().join("../cgroup.subtree_control")] {
        fs::write(directory, "+memory").unwrap();
    }
    machine.put(Some("on"));
    assert!(machine.daemon.kill().is_err(), "by its parent, root");
    machine.exhaust();
    assert!(machine.is_sealed(), "{}", status());
    assert_eq!(status()["daemon"], false);

    let home = &machine.home;
    let said = Path::new(SCRATCH).join("impostor.log");
    let fails = |what: &str, command: &mut Command| {
        println!("   {what}");
        let log = fs::File::create(&said).unwrap();
        let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let why = || fs::read_to_string(&said).unwrap();
        let status = wait::until(what, wait::SOON, || child.try_wait().unwrap());
        assert!(!status.success() && why().contains("sealed"), "{what}: {status}: {}", why());
        assert!(machine_is_sealed(), "{what}");
    };
    let copy = Path::new("/usr/local/bin/enforcer-copy");
    let _ = fs::copy(installed("enforcer"), copy).unwrap();
    fails("a copy", &mut daemon_as(copy, home));
    fs::remove_file(copy).unwrap();

    let marker = format!("{SCRATCH}/preloaded");
    let library = format!("{SCRATCH}/preloaded.so");
    fs::write(&library, shared_object::creating(&marker)).unwrap();
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    fails("with a library", daemon(home).env("LD_PRELOAD", &library));
    fails("with an auditor", daemon(home).env("LD_AUDIT", &library));

    let mut traced = daemon(home);
    // SAFETY: two system calls, which are async-signal-safe.
    unsafe { traced.pre_exec(|| Ok(nix::sys::ptrace::traceme()?)) };
    fails_traced(traced, &said);

    let mut filtered = daemon(home);
    // SAFETY: system calls alone.
    unsafe { filtered.pre_exec(allow_everything) };
    fails("under a filter of system calls", &mut filtered);

    let mut apart = daemon(home);
    // SAFETY: system calls alone, on constant paths.
    unsafe {
        apart.pre_exec(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            Ok(mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?)
        });
    }
    fails("in a mount namespace of its own", &mut apart);

    fails("with other settings", daemon(home).arg("--no-cache"));
    fails("with more trust", daemon(home).arg("--insecure-unsigned"));
    let link = format!("{SCRATCH}/linked-enforcer");
    let _ = fs::remove_file(&link);
    symlink(installed("enforcer"), &link).unwrap();

    // The daemon's program, however it is found, and whatever is in its environment.
    let mut successor = daemon_as(Path::new(&link), &machine.home);
    successor.env("TSS2_LOGFILE", "/etc/enforcer/anchors.toml");
    machine.daemon = start_until_ready(&mut successor, &output()).unwrap();
    assert!(machine.is_sealed(), "{}", status());
    assert_eq!(status()["seal"]["daemon"], machine.daemon.id());
    let daemon = machine.daemon.id().to_string();
    machine.is_refused(&["signal", &daemon, "9"]);
    machine.is_refused(&["trace", &daemon]);
    // Another program in its place: the name is in use, and cannot be covered.
    machine.is_refused(&["mount-over", "/usr/local/bin"]);
    machine.is_refused(&["unlink", installed("enforcer").to_str().unwrap()]);
    machine.is_refused(&["open-write", "/etc/enforcer/anchors.toml"]);
    machine.put(Some("off"));
    assert!(!machine.is_sealed());
    machine.succeeds(&["trace", &daemon]);
}

fn machine_is_sealed() -> bool {
    !status()["seal"].is_null()
}

/// A filter that allows everything, as its author could allow less, or answer itself.
fn allow_everything() -> std::io::Result<()> {
    // BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
    let code = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }];
    let program = libc::sock_fprog { len: 1, filter: code.as_ptr().cast_mut() };
    // SAFETY: the program lives for the call, which copies it.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::c_ulong::from(libc::SECCOMP_MODE_FILTER), &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// One that is traced from its start stops at it; its tracer lets it go on, still attached.
#[expect(clippy::zombie_processes, reason = "its tracer waits for it")]
fn fails_traced(mut command: Command, said: &Path) {
    use nix::sys::wait::{WaitStatus, waitpid};
    let _ = fs::remove_file(said);
    let log = fs::File::create(said).unwrap();
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    loop {
        let signal = match waitpid(pid, None).unwrap() {
            WaitStatus::Stopped(_, signal) => (signal != Signal::SIGTRAP).then_some(signal),
            WaitStatus::Exited(_, code) => {
                assert_ne!(code, 0, "traced");
                break;
            }
            other => panic!("traced: {other:?}"),
        };
        nix::sys::ptrace::cont(pid, signal).unwrap();
    }
    let said = fs::read_to_string(said).unwrap();
    assert!(said.contains("sealed"), "traced: {said}");
    assert!(machine_is_sealed(), "traced");
}
