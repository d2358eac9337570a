//! No gap: the daemon is killed, starved of memory and replaced, while a workload is attacked and has work to do.
//!
//! The daemon runs in the unit that is shipped, so it is systemd that starts it anew each time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use enforcer_vm_tests::actor::installed;
use enforcer_vm_tests::enforcer::{Enforcer, asked, baseline_only, run, shown};
use enforcer_vm_tests::random::Random;
use enforcer_vm_tests::siege::Siege;
use enforcer_vm_tests::{other_build, pins, units, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::shipped_unit::{Installed, PROGRAM, UNIT};

/// How long the daemon may take to be ready while a workload is attacked, its programs loaded anew.
const READY: Duration = Duration::from_secs(300);

/// Time between two blows.
const BLOW: Duration = Duration::from_millis(100);

/// Time between two looks at how old the daemon is.
const GLANCE: Duration = Duration::from_millis(20);

/// Blows between two newcomers.
const NEWCOMERS: u64 = 20;

/// Whoever is killed is started again at once, so that there is something to hit.
const AT_ONCE: &str = "RestartSec=0\n";

const EVENT_LOG: &str = "/var/log/enforcer/events.jsonl";

/// The shipped unit with a workload under siege.
struct Scene {
    enforcer: Enforcer,
    siege: Siege,
    before: Left,
    _installed: Installed,
}

/// What a daemon leaves, whatever its end.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    entries: BTreeMap<&'static str, usize>,
    links: usize,
    loaded: pins::Loaded,
    files: Vec<PathBuf>,
}

impl Left {
    fn now() -> Self {
        let directories = ["/run/enforcer", "/var/lib/enforcer", "/etc/enforcer"];
        let list = |directory: &&str| {
            fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
        };
        let mut files: Vec<_> = directories.iter().flat_map(list).collect();
        files.sort();
        Self { entries: pins::entries(), links: pins::link_ids().len(), loaded: pins::Loaded::now(), files }
    }
}

impl Scene {
    fn set(name: &'static str, unit: &str) -> Self {
        let mut enforcer = Enforcer::ready();
        enforcer.kill_daemon();
        let installed = Installed::with(unit);
        let mut siege = Siege::prepare(name);
        Installed::write(name, &siege.policy());
        units::tell("start", UNIT);
        siege.begin();
        Self { enforcer, siege, before: Left::now(), _installed: installed }
    }

    /// The daemon is there, does its work, and nothing has piled up.
    fn all_is_well(&mut self) {
        wait::until("the daemon to be ready", READY, || {
            let _ = self.siege.look();
            is_ready().then_some(())
        });
        let status = run(&["status"]);
        assert!(status.status.success(), "{}", shown(&status));
        let traced = self.siege.leave_a_trace();
        wait::until("the event of a refusal", wait::SOON, || {
            fs::read_to_string(EVENT_LOG).unwrap().contains(&traced).then_some(())
        });
        // The kernel frees what a process had some time after its end.
        let mut now = Left::now();
        let settled = Instant::now();
        while now != self.before && settled.elapsed() < wait::SOON {
            self.siege.more_rounds();
            now = Left::now();
        }
        assert_eq!(now, self.before, "something has piled up");
    }

    fn end(self, what: &str) {
        let Self { mut enforcer, siege, _installed: installed, .. } = self;
        println!("{what}: {:?}", siege.lift());
        drop(installed);
        enforcer.start_daemon();
        enforcer.barrier();
    }
}

fn is_ready() -> bool {
    units::is_active(UNIT) && units::property(UNIT, "StatusText").contains("enforcing with")
}

/// The daemon's process, once it is the daemon's program and not systemd's that starts it.
fn daemon() -> Option<Pid> {
    let procs = fs::read_to_string(format!("/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs")).ok()?;
    let is_daemon = |pid: &&str| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.starts_with(Path::new(PROGRAM)))
    };
    procs.lines().find(is_daemon).and_then(|pid| pid.parse().ok()).map(Pid::from_raw)
}

/// How many processes the kernel has ended for want of memory.
fn out_of_memory_kills() -> u64 {
    let counters = fs::read_to_string("/proc/vmstat").unwrap();
    let count = counters.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.expect("the kernel counts them").parse().unwrap()
}

/// How long the daemon took from its first instruction to being ready, by systemd's clock.
fn start_up() -> Duration {
    lasted("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
}

/// The time between two of the unit's time stamps; none if the later one is older.
fn lasted(from: &str, to: &str) -> Duration {
    let at = |name| units::property(UNIT, name).parse().map(Duration::from_micros).expect("a time");
    at(to).saturating_sub(at(from))
}

/// Kills the daemon for a while, each time once it is as old as `mercy` says, and at least once; looks whenever `every`
/// has passed. Returns how often it was killed.
fn hammer(siege: &mut Siege, length: Duration, every: Duration, mut mercy: impl FnMut() -> Duration) -> u64 {
    let began = Instant::now();
    let (mut alive, mut dead): (Option<(Pid, Instant, Duration)>, Option<Pid>) = (None, None);
    let mut kills = 0_u64;
    let mut next = began;
    while began.elapsed() < length || (kills == 0 && began.elapsed() < READY) {
        next += every;
        // A tick of the hammer: nobody is waited for.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        // One that was killed may take a moment to go.
        let Some(pid) = daemon().filter(|pid| Some(*pid) != dead) else { continue };
        let (_, born, lives) = *alive.insert(
            alive.filter(|(known, ..)| *known == pid).unwrap_or_else(|| (pid, Instant::now(), mercy())),
        );
        if born.elapsed() >= lives && kill(pid, Signal::SIGKILL).is_ok() {
            dead = Some(pid);
            kills += 1;
            let _ = siege.look();
            if kills.is_multiple_of(NEWCOMERS) {
                siege.newcomer();
            }
        }
    }
    kills
}

#[test]
fn a_daemon_that_is_killed_all_the_time_leaves_no_gap() {
    if baseline_only() {
        return;
    }
    let mut scene = Scene::set("hammered", AT_ONCE);
    let mut random = Random::seeded();
    let length = Duration::from_secs(asked("ENFORCER_VM_HAMMER", 10, 4) as u64);
    let start_up = start_up();
    let (links, restarts) = (pins::link_ids(), || units::property(UNIT, "NRestarts").parse::<u64>().unwrap());
    let at_most = usize::try_from(start_up.as_millis()).unwrap() * 5 / 4;
    let (mut began, mut tried) = (restarts(), scene.siege.look());
    for (what, every, at_most) in
        [("as soon as it is there", BLOW, 1), ("at any point of its start", GLANCE, at_most)]
    {
        let mercy = || Duration::from_millis(random.below(at_most) as u64);
        let kills = hammer(&mut scene.siege, length, every, mercy);
        let now = scene.siege.look();
        println!("{what}: killed {kills} times in {length:?} (a start takes {start_up:?}); {now:?} so far");
        assert!(kills > 0, "never killed {what}: {}", units::state(UNIT));
        assert!(now.refused > tried.refused && now.allowed > tried.allowed, "nobody tried anything: {now:?}");
        // Programs and links were never touched.
        assert_eq!(pins::link_ids(), links);
        scene.siege.more_rounds();
        scene.all_is_well();
        let restarted = restarts();
        assert!(restarted >= began + kills, "{kills} kills, and from {began} to {restarted} restarts");
        (began, tried) = (restarted, scene.siege.look());
    }
    scene.end("hammered");
}

/// The kernel ends the daemon for want of memory, again and again, until it may have some.
#[test]
fn a_daemon_that_runs_out_of_memory_leaves_no_gap() {
    if baseline_only() {
        return;
    }
    let mut scene = Scene::set("starved", "");
    let links = pins::link_ids();
    let limit = |bytes: &str| {
        let output = units::systemctl(&["set-property", "--runtime", UNIT, &format!("MemoryMax={bytes}")]);
        assert!(output.status.success(), "{}", shown(&output));
    };
    let (victim, before) = (daemon(), out_of_memory_kills());
    limit("1M");
    wait::until("the kernel to end the daemon, and what systemd starts in its place", READY, || {
        let _ = scene.siege.look();
        (daemon() != victim && out_of_memory_kills() >= before + 2).then_some(())
    });
    assert_eq!(pins::link_ids(), links);
    scene.siege.newcomer();
    scene.siege.more_rounds();
    limit("infinity");
    scene.all_is_well();
    println!("the kernel ended {} processes", out_of_memory_kills() - before);
    scene.end("starved");
}

/// Builds with different objects take turns, as packages do: the program is replaced, then the unit restarted.
///
/// `kernel/takeover.rs` has one for each kernel.
#[test]
#[ignore = "each upgrade takes an emulated processor minutes under siege"]
fn upgrades_in_a_row_leave_no_gap() {
    let upgrades = asked("ENFORCER_VM_UPGRADES", 20, 20);
    if baseline_only() {
        return;
    }
    let mut scene = Scene::set("upgraded", AT_ONCE);
    let mut random = Random::seeded();
    let own = installed("enforcer");
    let other = PathBuf::from("/var/tmp/other-enforcer");
    let [digest] = <[_; 1]>::try_from(sets()).unwrap();
    let digests = [other_build::write(&own, &digest, &other), digest];
    let builds = [other, own];
    let mut takes = Duration::ZERO;
    let mut kills = 0;
    for (at, (build, digest)) in builds.iter().zip(&digests).cycle().take(upgrades).enumerate() {
        let before = pins::link_ids();
        let began = Instant::now();
        let staged = format!("{PROGRAM}.dpkg-new");
        fs::copy(build, &staged).unwrap();
        fs::rename(&staged, PROGRAM).unwrap();
        if at % 2 == 1 {
            // This one is killed on the way, with some of its programs attached, or none, or all.
            let old = daemon();
            assert!(units::systemctl(&["restart", "--no-block", UNIT]).status.success());
            let born = wait::until("the new daemon", READY, || daemon().filter(|pid| Some(*pid) != old));
            let (since, lives) = (Instant::now(), takes.mul_f64(random.below(1000) as f64 / 1000.0));
            wait::until("the moment to kill it", READY, || (since.elapsed() >= lives).then_some(()));
            kill(born, Signal::SIGKILL).unwrap();
            kills += 1;
            println!("upgrade {at} was killed after {lives:.1?}, leaving {:?}", sets());
        } else {
            units::tell("restart", UNIT);
            takes = began.elapsed();
        }
        wait::until("the upgrade", READY, || (is_ready() && sets() == [digest.clone()]).then_some(()));
        let stop = lasted("ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic");
        println!(
            "upgrade {at} took {:.1?}, of which {stop:.1?} to stop and {:.1?} to start",
            began.elapsed(),
            start_up()
        );
        let after = pins::link_ids();
        assert_eq!(after.len(), before.len());
        assert!(!after.values().any(|link| before.values().any(|old| old == link)), "not attached anew");
        scene.siege.more_rounds();
        scene.siege.newcomer();
    }
    scene.all_is_well();
    println!("{upgrades} upgrades, one takes {takes:.1?}, {kills} killed on the way");
    scene.end("upgraded");
}

/// The digests of the objects whose programs are pinned, and those of sets that are half made by their names.
fn sets() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(pins::directory().join("links"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| match name.split_once('-') {
            Some((digest, _)) if digest != "new" => digest.to_owned(),
            _ => name,
        })
        .collect();
    names.sort();
    names
}
