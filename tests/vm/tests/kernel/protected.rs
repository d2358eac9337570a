//! The enforcer's own: a workload that may do everything, in all namespaces of the host, gets at none of it.
//!
//! Each operation is done twice under the same policy, first on something that is like ours and is nobody's: it succeeds,
//! so the policy allows it and the kernel can do it. Then on ours, where it is refused, with an event that says why.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use enforcer_common::hook::Privilege;
use enforcer_vm_tests::actor::{self, Actor, Op, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only, log_file};
use enforcer_vm_tests::events::Mark;
use enforcer_vm_tests::pins;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::report::Report;
use enforcer_vm_tests::wait;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Allows everything that the language can say.
fn everything(name: &str, cgroup: &Cgroup) -> Policy {
    let files = ["file.read", "file.write", "file.create"];
    let policy = files.iter().fold(Policy::of(name, cgroup), |policy, key| policy.allow(key, "/**"));
    Privilege::ALL.iter().fold(policy, |policy, privilege| policy.allow("privileges.allow", privilege.name()))
}

/// A task under such a policy.
struct Tamperer<'a> {
    enforcer: Enforcer,
    cgroup: &'a Cgroup,
    actor: Actor,
}

impl<'a> Tamperer<'a> {
    fn start(mut enforcer: Enforcer, policy: &Policy, cgroup: &'a Cgroup) -> Self {
        enforcer.apply(&[policy]);
        let actor = Actor::start(Place::Joining(cgroup)).unwrap();
        Self { enforcer, cgroup, actor }
    }

    /// The policy allows it, and there is no event.
    fn succeeds(&mut self, words: &[&str]) {
        let mark = self.enforcer.mark();
        let report = self.perform(words);
        assert!(report.ok, "on something that is nobody's: {report:?}");
        let events = self.enforcer.events_since(mark);
        assert!(events.is_empty(), "{words:?}: {events:#?}");
    }

    /// It is refused, and each event says that it is ours.
    fn is_refused(&mut self, words: &[&str]) {
        let mark = self.enforcer.mark();
        let report = self.perform(words);
        self.was_refused(words, &report, mark);
    }

    /// As [`Tamperer::is_refused`] of a thread of the daemon, unless it ends meanwhile: those that wait for files do.
    fn is_refused_if_alive(&mut self, thread: &str, words: &[&str]) -> bool {
        let mark = self.enforcer.mark();
        let report = self.perform(words);
        if report.errno == libc::ESRCH && !Path::new("/proc").join(thread).exists() {
            return false;
        }
        self.was_refused(words, &report, mark);
        true
    }

    fn was_refused(&mut self, words: &[&str], report: &Report, mark: Mark) {
        // Whoever asks procfs for memory is told EACCES.
        assert!(report.refused(), "{report:?}");
        let events = self.enforcer.events_since(mark);
        assert!(!events.is_empty(), "{words:?}: no event");
        for event in &events {
            let (reason, verdict) = (event.text("reason"), event.text("verdict"));
            assert_eq!((reason, verdict), ("protected", "denied"), "{words:?}: {event}");
            assert_eq!(event.suggestion(), "", "{event}");
        }
    }

    /// What changes the process that does it is done by one of its own.
    fn perform(&mut self, words: &[&str]) -> Report {
        if words[0].starts_with("overlay") || words[0] == "move-apart" {
            return actor::run(Place::Joining(self.cgroup), &[op(words)]).unwrap().remove(0);
        }
        self.actor.perform(words)
    }
}

pub(crate) fn words(op: &Op) -> Vec<&str> {
    op.iter().map(String::as_str).collect()
}

/// What is done to a directory that holds the file `file`. In this order each succeeds where nobody minds.
pub(crate) fn on_files(directory: &str, file: &str) -> Vec<Op> {
    let inside = |name: &str| format!("{directory}/{name}");
    let (there, outside) = (inside(file), format!("{SCRATCH}/protected-outside"));
    vec![
        op(&["open-read", &there]),
        op(&["open-write", &there]),
        op(&["chmod", &there]),
        op(&["chmod", directory]),
        op(&["setxattr", &there]),
        op(&["removexattr", &there]),
        op(&["truncate", &there]),
        op(&["open-create", &inside("made")]),
        op(&["mkdir", &inside("made-directory")]),
        op(&["mkfifo", &inside("made-fifo")]),
        op(&["symlink", "/etc", &inside("made-link")]),
        op(&["link", &there, &format!("{directory}-linked")]),
        op(&["overlay-read", directory, &format!("{outside}-read"), file]),
        op(&["overlay-create", directory, &format!("{outside}-create"), "made-on-overlay"]),
        op(&["overlay-write", directory, &format!("{outside}-write"), file]),
        op(&["rename", &there, &inside("renamed")]),
        op(&["rename", &inside("renamed"), &there]),
        op(&["unlink", &there]),
        op(&["rename", &format!("{directory}-planted"), &there]),
        op(&["rename", directory, &format!("{directory}-renamed")]),
    ]
}

/// Undoes [`on_files`].
pub(crate) fn remove_decoy(directory: &str) {
    for path in ["", "-renamed", "-work"].map(|suffix| format!("{directory}{suffix}")) {
        let _ = fs::remove_dir_all(path);
    }
    for path in ["-linked", "-planted"].map(|suffix| format!("{directory}{suffix}")) {
        let _ = fs::remove_file(path);
    }
}

pub(crate) fn make_decoy(directory: &str, file: &str) {
    remove_decoy(directory);
    fs::create_dir_all(directory).unwrap();
    fs::write(format!("{directory}/{file}"), "").unwrap();
    fs::write(format!("{directory}-planted"), "").unwrap();
}

#[test]
fn files_and_directories() {
    let enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("protected-files");
    let mut tamperer = Tamperer::start(enforcer, &everything("protected-files", &cgroup), &cgroup);
    for (ours, decoy, file) in
        [("/run/enforcer", "/run/decoy", "lock"), ("/etc/enforcer", "/etc/decoy", "anchors.toml")]
    {
        let file_of_ours = format!("{ours}/{file}");
        let before = fs::read(&file_of_ours).unwrap();
        make_decoy(decoy, file);
        fs::write(format!("{ours}-planted"), "").unwrap();
        for attempt in on_files(decoy, file) {
            tamperer.succeeds(&words(&attempt));
        }
        for attempt in on_files(ours, file) {
            // Where nothing was renamed there is nothing to rename back.
            if attempt[0] == "rename" && attempt[1].ends_with("/renamed") {
                continue;
            }
            tamperer.is_refused(&words(&attempt));
        }
        assert_eq!(fs::read(&file_of_ours).unwrap(), before);
        remove_decoy(decoy);
        fs::remove_file(format!("{ours}-planted")).unwrap();
        let _ = fs::remove_dir_all(format!("{ours}-work"));
    }
}

/// Who ships the log reads it, and everybody may look at the program.
#[test]
fn records_are_read_and_not_changed() {
    let enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("protected-records");
    let mut tamperer = Tamperer::start(enforcer, &everything("protected-records", &cgroup), &cgroup);
    let daemon = tamperer.enforcer.daemon_pid().unwrap();
    let program = fs::read_link(format!("/proc/{daemon}/exe")).unwrap();
    // Nobody writes into a program that runs.
    for (ours, by_writing) in [(log_file(), &["open-write", "truncate"][..]), (program, &[])] {
        let ours = ours.to_str().unwrap();
        let elsewhere = format!("{ours}-elsewhere");
        let inode = fs::metadata(ours).unwrap().ino();
        tamperer.succeeds(&["open-read", ours]);
        for operation in by_writing.iter().chain(&["chmod", "setxattr", "unlink"]) {
            tamperer.is_refused(&[operation, ours]);
        }
        for attempt in [op(&["link", ours, &elsewhere]), op(&["rename", ours, &elsewhere])] {
            tamperer.is_refused(&words(&attempt));
        }
        assert_eq!(fs::metadata(ours).unwrap().ino(), inode);
    }
}

#[test]
fn audit_mode_gives_nothing_of_ours_away() {
    let enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("protected-audit");
    let policy = Policy::of("protected-audit", &cgroup).audit();
    let mut tamperer = Tamperer::start(enforcer, &policy, &cgroup);
    let daemon = tamperer.enforcer.daemon_pid().unwrap().to_string();
    let attempts: [&[&str]; 3] =
        [&["open-write", "/run/enforcer/lock"], &["unlink", "/run/enforcer/lock"], &["signal", &daemon, "9"]];
    for attempt in attempts {
        let report = tamperer.perform(attempt);
        assert_eq!(report.errno, libc::EPERM, "{report:?}");
    }
    // Everybody else's may be touched: SIGCONT to this test.
    let report = tamperer.perform(&["signal", &std::process::id().to_string(), "18"]);
    assert!(report.ok, "{report:?}");
}

#[test]
fn pins_and_objects() {
    let enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("protected-pins");
    let mut tamperer = Tamperer::start(enforcer, &everything("protected-pins", &cgroup), &cgroup);
    let ours = pins::directory();
    let decoy = Path::new("/sys/fs/bpf/decoy");
    fs::create_dir_all(decoy.join("empty")).unwrap();
    let foreign = pins::Foreign::pinned(&decoy.join("map")).unwrap();
    let objects = pins::own_objects();
    let link = pins::link_ids().into_iter().next().unwrap().0;

    let map = decoy.join("map");
    let map = map.to_str().unwrap();
    tamperer.succeeds(&["map-by-id", &foreign.map_id().to_string()]);
    tamperer.succeeds(&["program-by-id", &foreign.program_id().to_string()]);
    tamperer.succeeds(&["open-pin", map]);
    tamperer.succeeds(&["chmod", map]);
    tamperer.succeeds(&["rename", map, "/sys/fs/bpf/decoy/other"]);
    tamperer.succeeds(&["unlink", "/sys/fs/bpf/decoy/other"]);
    tamperer.succeeds(&["mkdir", "/sys/fs/bpf/decoy/made"]);
    tamperer.succeeds(&["rmdir", "/sys/fs/bpf/decoy/empty"]);
    tamperer.succeeds(&["rename", "/sys/fs/bpf/decoy", "/sys/fs/bpf/decoy-renamed"]);
    fs::remove_dir_all("/sys/fs/bpf/decoy-renamed").unwrap();

    assert!(
        objects.maps.len() > 10 && objects.programs.len() > 50 && objects.links.len() > 50,
        "{objects:?}"
    );
    for id in &objects.maps {
        tamperer.is_refused(&["map-by-id", &id.to_string()]);
    }
    // One of each kind stands for all: an event takes a moment.
    for (operation, ids) in [("program-by-id", &objects.programs), ("link-by-id", &objects.links)] {
        for id in [ids.first().unwrap(), ids.last().unwrap()] {
            tamperer.is_refused(&[operation, &id.to_string()]);
        }
    }
    let map = ours.join("maps/CONTROL");
    let map = map.to_str().unwrap();
    let inside = |name: &str| ours.join(name).to_str().unwrap().to_owned();
    tamperer.is_refused(&["open-pin", map]);
    tamperer.is_refused(&["chmod", map]);
    tamperer.is_refused(&["rename", map, &inside("maps/OTHER")]);
    tamperer.is_refused(&["rename", map, "/sys/fs/bpf/CONTROL"]);
    tamperer.is_refused(&["unlink", map]);
    tamperer.is_refused(&["unlink", &link]);
    tamperer.is_refused(&["rename", &link, "/sys/fs/bpf/link"]);
    tamperer.is_refused(&["mkdir", &inside("links/made")]);
    tamperer.is_refused(&["rmdir", &inside("links")]);
    tamperer.is_refused(&["rename", &inside("maps"), &inside("elsewhere")]);
    tamperer.is_refused(&["rename", "/sys/fs/bpf/enforcer", "/sys/fs/bpf/elsewhere"]);
    // A descriptor of a link can be had by its pin, and does nothing: these links cannot be detached.
    let report = tamperer.perform(&["detach-pin", &link]);
    assert!(!report.ok && report.step == "BPF_LINK_DETACH" && report.errno == libc::EOPNOTSUPP, "{report:?}");
}

/// A process that is nobody's, and one of its readable addresses.
pub(crate) struct Bystander(pub(crate) Child);

impl Bystander {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(actor::installed("actor"));
        let child = command.arg("pause").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let call = format!("/proc/{}/syscall", child.id());
        let pauses =
            || fs::read_to_string(&call).is_ok_and(|call| call.starts_with(&format!("{} ", libc::SYS_pause)));
        // Its memory is not what it will be while it starts.
        wait::until("the bystander to pause", wait::SOON, || pauses().then_some(()));
        Self(child)
    }

    pub(crate) fn id(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first address that a process can read, in hexadecimal.
pub(crate) fn readable_address(process: &str) -> String {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    maps.lines()
        .find(|line| line.contains(" r") && line.contains('/'))
        .and_then(|line| line.split('-').next())
        .unwrap()
        .to_owned()
}

/// What is done to a process. Whoever is traced cannot be traced once more, so that comes late; the last ends it.
pub(crate) fn on_process(process: &str) -> Vec<Op> {
    let file = |name: &str| format!("/proc/{process}/{name}");
    vec![
        op(&["signal", process, "0"]),
        op(&["signal", process, "18"]),
        op(&["limit", process]),
        op(&["renice", process]),
        op(&["open-rdwr", &file("mem")]),
        op(&["read", &file("environ")]),
        op(&["open-write", &file("oom_score_adj")]),
        op(&["open-write", &file(&format!("task/{process}/comm"))]),
        op(&["read-memory", process, &readable_address(process)]),
        op(&["steal-descriptor", process, "0"]),
        op(&["trace", process]),
        op(&["signal", process, "9"]),
    ]
}

#[test]
fn the_daemon() {
    let enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("protected-daemon");
    let mut tamperer = Tamperer::start(enforcer, &everything("protected-daemon", &cgroup), &cgroup);
    let mut bystander = Bystander::start();
    for attempt in on_process(&bystander.id()) {
        tamperer.succeeds(&words(&attempt));
    }
    assert!(!bystander.0.wait().unwrap().success(), "it was killed");
    let mut bystander = Bystander::start();
    tamperer.succeeds(&["signal-by-pipe", &bystander.id(), "9"]);
    assert!(!bystander.0.wait().unwrap().success(), "it was killed by a descriptor");

    let daemon = tamperer.enforcer.daemon_pid().unwrap().to_string();
    for attempt in on_process(&daemon) {
        tamperer.is_refused(&words(&attempt));
    }
    // Setting it up is the policy's business, and it is never sent.
    tamperer.succeeds(&["signal-by-pipe", &daemon, "9"]);
    // Threads are the daemon, too.
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{daemon}/task")).unwrap() {
        let thread = thread.unwrap().file_name().into_string().unwrap();
        threads += usize::from(
            tamperer.is_refused_if_alive(&thread, &["signal", &thread, "9"])
                && tamperer.is_refused_if_alive(&thread, &["limit", &thread]),
        );
    }
    assert!(threads > 1, "the first thread and others");
    assert_eq!(tamperer.enforcer.daemon_pid().map(|pid| pid.to_string()), Some(daemon));
    tamperer.enforcer.barrier();
}

/// A daemon under a policy would be refused what it lives on, the time of its heartbeat first.
#[test]
fn a_daemon_in_a_workloads_cgroup_is_under_no_policy() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("protected-moved");
    enforcer.apply(&[&Policy::of("protected-moved", &cgroup)]);
    let daemon = enforcer.daemon_pid().unwrap();
    let home = fs::read_to_string(format!("/proc/{daemon}/cgroup")).unwrap();
    let home = home.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    cgroup.adopt(daemon);
    let beat = || fs::metadata("/run/enforcer/alive").unwrap().modified().unwrap();
    // Of the first the daemon may have been asked before it was moved.
    for _ in 0..2 {
        let before = beat();
        wait::until("a beat of the daemon's heart", wait::SOON, || (beat() != before).then_some(()));
    }
    enforcer.barrier();
    let reports = actor::run(Place::Joining(&cgroup), &[op(&["open-read", "/etc/passwd"])]).unwrap();
    assert!(reports[0].refused(), "{reports:?}");
    fs::write(format!("{}{home}/cgroup.procs", enforcer_vm_tests::cgroup::MOUNT), daemon.to_string())
        .unwrap();
}

/// A mount that is nobody's, and a directory to move it to.
pub(crate) fn mount_decoy(name: &str) -> (String, String) {
    let [point, elsewhere] = ["mount", "elsewhere"].map(|what| format!("{SCRATCH}/{name}-{what}"));
    for directory in [&point, &elsewhere] {
        fs::create_dir_all(directory).unwrap();
    }
    mount(Some("decoy"), point.as_str(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    mount(None::<&str>, point.as_str(), None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    (point, elsewhere)
}

/// What is done to it. In this order each succeeds where nobody minds.
pub(crate) fn on_mount(point: &str, elsewhere: &str) -> [Op; 3] {
    [op(&["mount-over", point]), op(&["move-mount", point, elsewhere]), op(&["unmount", elsewhere])]
}

/// The same to the mounts that lead to what is ours, and what would hide it. `point` is a directory.
pub(crate) fn on_our_mounts(point: &str, elsewhere: &str) -> Vec<Op> {
    let own = pins::directory();
    let own = own.to_str().unwrap();
    let covered =
        ["/sys", "/sys/fs/bpf", "/sys/fs/bpf/enforcer", own, "/run/enforcer", "/etc", "/etc/enforcer"];
    let mut all: Vec<_> = covered.iter().map(|path| op(&["mount-over", path])).collect();
    for path in ["/sys/fs/bpf", "/sys"] {
        all.push(op(&["unmount", path]));
        all.push(op(&["move-mount", path, elsewhere]));
        all.push(op(&["move-by-mount", path, elsewhere]));
    }
    all.push(op(&["pivot-root", point, point]));
    all
}

/// Another mount of our pins, and one of our maps in it.
pub(crate) fn show_pins(name: &str) -> (String, String) {
    let shown = format!("{SCRATCH}/{name}-shown");
    fs::create_dir_all(&shown).unwrap();
    mount(Some("/sys/fs/bpf"), shown.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let own = pins::directory();
    let map = format!("{shown}/{}/maps/CONTROL", own.to_str().unwrap().trim_start_matches("/sys/fs/bpf/"));
    (shown, map)
}

#[test]
fn mounts() {
    let enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("protected-mounts");
    let mut tamperer = Tamperer::start(enforcer, &everything("protected-mounts", &cgroup), &cgroup);
    let (point, elsewhere) = mount_decoy("protected");
    for attempt in on_mount(&point, &elsewhere) {
        tamperer.succeeds(&words(&attempt));
    }
    // In a mount namespace of its own it moves what it likes; of that, no other namespace takes notice.
    tamperer.succeeds(&["move-apart", &point]);

    for attempt in on_our_mounts(&point, &elsewhere) {
        tamperer.is_refused(&words(&attempt));
    }
    // A mount of its own of what is ours is no way around.
    let (shown, map) = show_pins("protected");
    assert!(Path::new(&map).exists());
    tamperer.is_refused(&["unlink", &map]);
    tamperer.is_refused(&["open-pin", &map]);
    umount2(shown.as_str(), MntFlags::MNT_DETACH).unwrap();
}
