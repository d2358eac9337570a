//! Programs that may start, and files of the host that are no launchers, are remembered with the file, and that counts only
//! while everything it hangs on is the same.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use enforcer::policy::digest::ContentDigest;
use enforcer_common::abi::Counter;
use enforcer_vm_tests::actor::{self, Actor, Place};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only, decides_each_time};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::make_executable;
use enforcer_vm_tests::{pins, stub, wait};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

const NOTHING: Option<&str> = None;
/// Starts that have to be repeated from memory.
const REPEATED: usize = 5;

/// Programs, the task that starts them, and what it may.
struct World {
    enforcer: Enforcer,
    cgroup: Cgroup,
    actor: Actor,
    root: String,
}

impl World {
    /// With a policy under which everything below `listed` may be started. `None` where nothing is enforced.
    fn new(name: &str) -> Option<Self> {
        let mut enforcer = Enforcer::ready();
        if baseline_only() {
            return None;
        }
        let cgroup = Cgroup::create(name);
        let root = format!("{SCRATCH}/{name}");
        let _ = fs::remove_dir_all(&root);
        for directory in ["listed/inner", "other"] {
            fs::create_dir_all(format!("{root}/{directory}")).unwrap();
        }
        for (status, file) in [(1, "listed/a"), (2, "listed/inner/b"), (3, "other/c")] {
            make_executable(Path::new(&format!("{root}/{file}")), &stub::exiting(status));
        }
        enforcer.apply(&[&Self::policy(name, &cgroup, &root)]);
        let actor = Actor::start(Place::Joining(&cgroup)).unwrap();
        Some(Self { enforcer, cgroup, actor, root })
    }

    fn policy(name: &str, cgroup: &Cgroup, root: &str) -> Policy {
        let listed = format!("{root}/listed/**");
        Self::bare(name, cgroup).allow("exec.allow", &listed).allow("file.read", &listed)
    }

    fn bare(name: &str, cgroup: &Cgroup) -> Policy {
        Policy::of(name, cgroup).allow("privileges.allow", "mount")
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.root)
    }

    /// The status that a program ends with, or none if it is refused.
    #[track_caller]
    fn starts(&mut self, path: &str) -> Option<u8> {
        let report = self.actor.perform(&["exec", path]);
        if report.errno == libc::EPERM {
            return None;
        }
        let status = report.detail.strip_prefix("exit ").and_then(|status| status.parse().ok());
        Some(status.unwrap_or_else(|| panic!("{path}: {report:?}")))
    }

    /// Starts a program until that is answered from memory. Whatever the host renames or mounts in between ends it.
    #[track_caller]
    fn remember(&mut self, path: &str, status: u8) {
        remember(|| assert_eq!(self.starts(path), Some(status), "{path}"));
    }

    /// Starts a program until it is remembered, which was not so before.
    #[track_caller]
    fn is_decided_anew(&mut self, path: &str, status: u8) {
        let before = pins::counter(Counter::Remembered);
        wait::until("an allow is remembered once more", wait::SOON, || {
            assert_eq!(self.starts(path), Some(status), "{path}");
            (decides_each_time() || pins::counter(Counter::Remembered) > before).then_some(())
        });
    }
}

/// Does something until it is remembered, and then repeated without being decided.
fn remember(mut start: impl FnMut()) {
    let first = pins::counter(Counter::Remembered);
    wait::until("an allow is remembered and repeated", wait::SOON, || {
        let before = pins::counter(Counter::Remembered);
        for _ in 0..REPEATED {
            start();
        }
        let after = pins::counter(Counter::Remembered);
        (decides_each_time() || (before > first && after == before)).then_some(())
    });
}

#[test]
fn another_name_of_a_program_is_decided_anew() {
    let Some(mut world) = World::new("program-renamed") else { return };
    let (a, b, c) = (world.at("listed/a"), world.at("listed/inner/b"), world.at("other/c"));
    assert_eq!(world.starts(&c), None);

    let link = world.at("other/link");
    world.remember(&a, 1);
    fs::hard_link(&a, &link).unwrap();
    assert_eq!(world.starts(&link), None, "another link");
    assert_eq!(world.starts(&a), Some(1));
    fs::remove_file(&link).unwrap();

    let moved = world.at("other/moved");
    world.remember(&a, 1);
    fs::rename(&a, &moved).unwrap();
    assert_eq!(world.starts(&moved), None, "a renamed file");
    fs::rename(&moved, &a).unwrap();
    world.remember(&b, 2);
    fs::rename(world.at("listed/inner"), world.at("other/inner")).unwrap();
    assert_eq!(world.starts(&world.at("other/inner/b")), None, "below a renamed directory");
    fs::rename(world.at("other/inner"), world.at("listed/inner")).unwrap();
    assert_eq!(world.starts(&b), Some(2));

    // A file that takes the place of another: the name allows it. The old one has a name that does not.
    world.remember(&a, 1);
    fs::hard_link(&a, &moved).unwrap();
    fs::rename(&c, &a).unwrap();
    assert_eq!(world.starts(&a), Some(3), "what lies there now");
    assert_eq!(world.starts(&moved), None, "what lay there before");

    // A file without a name.
    let held = world.actor.perform(&["hold", &a]);
    assert!(held.ok, "{held:?}");
    let descriptor = format!("/proc/self/fd/{}", held.detail);
    world.remember(&descriptor, 3);
    fs::remove_file(&a).unwrap();
    assert_eq!(world.starts(&descriptor), None, "a deleted file");
}

#[test]
fn a_written_program_is_decided_anew() {
    let Some(mut world) = World::new("program-written") else { return };
    let a = world.at("listed/a");
    world.remember(&a, 1);
    OpenOptions::new().write(true).truncate(true).open(&a).unwrap().write_all(&stub::exiting(4)).unwrap();
    world.is_decided_anew(&a, 4);
    fs::remove_file(&a).unwrap();
    make_executable(Path::new(&a), &stub::exiting(5));
    world.is_decided_anew(&a, 5);
}

#[test]
fn another_view_of_a_program_is_decided_anew() {
    let Some(mut world) = World::new("program-viewed") else { return };
    let (listed, other, view) = (world.at("listed"), world.at("other"), world.at("other/view"));
    let a = world.at("listed/a");
    fs::create_dir_all(&view).unwrap();
    mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING).unwrap();

    world.remember(&a, 1);
    mount(Some(listed.as_str()), view.as_str(), NOTHING, MsFlags::MS_BIND, NOTHING).unwrap();
    assert_eq!(world.starts(&format!("{view}/a")), None, "seen from a bind mount");
    umount2(view.as_str(), MntFlags::MNT_DETACH).unwrap();

    let inner = world.at("listed/inner");
    mount(Some(other.as_str()), inner.as_str(), NOTHING, MsFlags::MS_BIND, NOTHING).unwrap();
    world.remember(&format!("{inner}/c"), 3);
    mount(Some(inner.as_str()), view.as_str(), NOTHING, MsFlags::MS_MOVE, NOTHING).unwrap();
    assert_eq!(world.starts(&format!("{view}/c")), None, "in a mount that was moved");
    umount2(view.as_str(), MntFlags::MNT_DETACH).unwrap();

    world.remember(&a, 1);
    let left = world.actor.perform(&["leave-namespace"]);
    assert!(left.ok, "{left:?}");
    world.is_decided_anew(&a, 1);
}

#[test]
fn another_policy_for_a_program_is_decided_anew() {
    let Some(mut world) = World::new("program-rules") else { return };
    let (a, root) = (world.at("listed/a"), world.root.clone());
    let policy = World::policy("program-rules", &world.cgroup, &root);
    let bare = World::bare("program-rules", &world.cgroup);
    let neighbour = Cgroup::create("program-neighbour");
    let other = World::bare("program-neighbour", &neighbour);

    world.enforcer.apply(&[&policy, &other]);
    world.remember(&a, 1);
    let mut stranger = Actor::start(Place::Joining(&neighbour)).unwrap();
    assert!(stranger.perform(&["exec", &a]).refused(), "under another policy");
    assert!(stranger.finish().is_empty());
    assert_eq!(world.starts(&a), Some(1));

    world.enforcer.apply(&[&bare]);
    assert_eq!(world.starts(&a), None, "the rule was removed");

    // Allowed to be read and mapped only.
    let library = bare.clone().allow("file.read", &a).allow("memory.libraries", &a);
    world.enforcer.apply(&[&library]);
    assert!(world.actor.perform(&["mmap-exec", &a]).ok);
    assert_eq!(world.starts(&a), None, "a library");

    world.enforcer.apply(&[&policy]);
    world.remember(&a, 1);

    // Each start of a pinned program asks for its content.
    let pinned = |status| {
        let digest = ContentDigest::of(stub::exiting(status).as_slice()).unwrap();
        World::bare("program-rules", &world.cgroup).pin(&a, &[digest])
    };
    let (one, four) = (pinned(1), pinned(4));
    world.enforcer.apply(&[&four]);
    assert_eq!(world.starts(&a), None, "pinned to another content");
    world.enforcer.apply(&[&one]);
    let before = pins::counter(Counter::Remembered);
    for _ in 0..REPEATED {
        assert_eq!(world.starts(&a), Some(1), "pinned to its content");
    }
    assert_eq!(pins::counter(Counter::Remembered), before, "a pinned program is not remembered");
    fs::write(&a, stub::exiting(4)).unwrap();
    assert_eq!(world.starts(&a), None, "another content");
    world.enforcer.apply(&[&four]);
    assert_eq!(world.starts(&a), Some(4), "the pin was changed");
    fs::write(&a, stub::exiting(1)).unwrap();
    assert_eq!(world.starts(&a), None, "the old content");
}

/// A file that is known to be no launcher becomes one by taking the place of one.
#[test]
fn a_launcher_s_place_makes_a_launcher() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("launcher-replaced");
    enforcer.apply(&[&Policy::of("launcher-replaced", &cgroup)]);
    let set_up = format!("{SCRATCH}/launcher-set-up");
    let trusted = actor::installed("launcher").to_string_lossy().into_owned();
    let (copy, aside) = (format!("{trusted}-copy"), format!("{trusted}-aside"));
    fs::copy(&trusted, &copy).unwrap();
    let launch = |launcher: &str| {
        let mut command = Command::new(launcher);
        command.arg(cgroup.directory()).args(["--touch", &set_up, "--", &actor::program(), "true"]);
        command.stdin(Stdio::null()).output().unwrap().status.code()
    };
    // It ends at once: no cgroup is named.
    remember(|| {
        let status = Command::new(&copy).stdin(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(64));
    });
    assert_eq!(launch(&copy), Some(72), "an impostor's set-up is judged");
    fs::rename(&trusted, &aside).unwrap();
    fs::rename(&copy, &trusted).unwrap();
    let in_its_place = launch(&trusted);
    let elsewhere = launch(&aside);
    fs::rename(&aside, &trusted).unwrap();
    assert_eq!(in_its_place, Some(0), "in a launcher's place");
    assert_eq!(elsewhere, Some(72), "a launcher that was moved away");
    assert_eq!(launch(&trusted), Some(0), "and back");
}
