//! Allows that are remembered with a file count only while everything they hang on is the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use enforcer_common::abi::Counter;
use enforcer_vm_tests::actor::{Actor, Place};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, asked, baseline_only, decides_each_time};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::random::Random;
use enforcer_vm_tests::{pins, wait};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

const NOTHING: Option<&str> = None;
/// Opens that have to be repeated from memory.
const REPEATED: &str = "50";
/// Opens of the random test; `ENFORCER_VM_OPENS` says otherwise.
const OPENS: usize = 20_000;

/// A tree of files, the task that opens them, and what it may.
struct World {
    enforcer: Enforcer,
    cgroup: Cgroup,
    actor: Actor,
    root: String,
}

impl World {
    /// With a policy under which everything below `listed` may be read. `None` where nothing is enforced.
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
        for file in ["listed/a", "listed/inner/b", "other/c"] {
            fs::write(format!("{root}/{file}"), file).unwrap();
        }
        enforcer.apply(&[&Self::policy(name, &cgroup, &root)]);
        let actor = Actor::start(Place::Joining(&cgroup)).unwrap();
        Some(Self { enforcer, cgroup, actor, root })
    }

    fn policy(name: &str, cgroup: &Cgroup, root: &str) -> Policy {
        Policy::of(name, cgroup)
            .allow("file.read", &format!("{root}/listed/**"))
            .allow("privileges.allow", "mount")
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.root)
    }

    /// Whether an open for reading succeeds, if the path leads anywhere.
    fn opens(&mut self, path: &str) -> Option<bool> {
        let report = self.actor.perform(&["open-read", path]);
        match report.errno {
            0 => Some(true),
            libc::EPERM => Some(false),
            _ => None,
        }
    }

    /// Opens a file until the allow is remembered, and makes sure that it is repeated.
    fn remember(&mut self, path: &str) {
        self.repeat(&["open-read", path], path);
    }

    /// Does something until it and the opens after it are answered from memory. That can take several attempts: an
    /// allow counts for the rights that were asked for when it had settled, and whatever the host renames or mounts in
    /// between ends it.
    fn repeat(&mut self, op: &[&str], path: &str) {
        let start = pins::counter(Counter::Remembered);
        wait::until("an allow is remembered and repeated", wait::SOON, || {
            let before = pins::counter(Counter::Remembered);
            let report = self.actor.perform(op);
            assert!(report.ok, "{report:?}");
            let report = self.actor.perform(&["open-each", REPEATED, path]);
            assert!(report.detail.bytes().all(|answer| answer == b'+'), "{path}: {report:?}");
            let after = pins::counter(Counter::Remembered);
            (decides_each_time() || (before > start && after == before)).then_some(())
        });
    }
}

#[test]
fn another_name_is_decided_anew() {
    let Some(mut world) = World::new("renamed") else { return };
    let (a, b, c) = (world.at("listed/a"), world.at("listed/inner/b"), world.at("other/c"));
    assert_eq!(world.opens(&c), Some(false));

    // A hard link, to which the old name's allow says nothing, neither while there are two nor afterwards.
    let link = world.at("other/link");
    world.remember(&a);
    fs::hard_link(&a, &link).unwrap();
    assert_eq!(world.opens(&link), Some(false), "another link");
    assert_eq!(world.opens(&a), Some(true));
    fs::remove_file(&a).unwrap();
    assert_eq!(world.opens(&link), Some(false), "the link that is left");
    fs::rename(&link, &a).unwrap();

    // The file, and a directory above it.
    let moved = world.at("other/moved");
    world.remember(&a);
    fs::rename(&a, &moved).unwrap();
    assert_eq!(world.opens(&moved), Some(false), "a renamed file");
    fs::rename(&moved, &a).unwrap();
    assert_eq!(world.opens(&a), Some(true));
    world.remember(&b);
    fs::rename(world.at("listed/inner"), world.at("other/inner")).unwrap();
    assert_eq!(world.opens(&world.at("other/inner/b")), Some(false), "below a renamed directory");
    fs::rename(world.at("other/inner"), world.at("listed/inner")).unwrap();
    assert_eq!(world.opens(&b), Some(true));

    // A symbolic link is no name.
    let symbolic = world.at("other/symbolic");
    world.remember(&a);
    symlink(&a, &symbolic).unwrap();
    assert_eq!(world.opens(&symbolic), Some(true), "what it leads to is listed");

    // Another file under the name, which is allowed by that, and another object behind the same inode number.
    fs::remove_file(&a).unwrap();
    fs::write(&c, "another").unwrap();
    assert_eq!(world.opens(&c), Some(false), "an old file that was written");
    fs::write(&a, "new").unwrap();
    assert_eq!(world.opens(&a), Some(true));

    // A name that is gone.
    world.remember(&a);
    let held = world.actor.perform(&["hold", &a]);
    assert!(held.ok, "{held:?}");
    let descriptor = format!("/proc/self/fd/{}", held.detail);
    assert_eq!(world.opens(&descriptor), Some(true), "while the name is there");
    fs::remove_file(&a).unwrap();
    assert_eq!(world.opens(&descriptor), Some(false), "a deleted file");
}

#[test]
fn another_view_is_decided_anew() {
    let Some(mut world) = World::new("viewed") else { return };
    let (listed, other, view) = (world.at("listed"), world.at("other"), world.at("other/view"));
    let a = world.at("listed/a");
    fs::create_dir_all(&view).unwrap();

    world.remember(&a);
    mount(Some(listed.as_str()), view.as_str(), NOTHING, MsFlags::MS_BIND, NOTHING).unwrap();
    assert_eq!(world.opens(&format!("{view}/a")), Some(false), "seen from a bind mount");
    umount2(view.as_str(), MntFlags::MNT_DETACH).unwrap();

    // A mount that is moved takes its mount structure along.
    let inner = world.at("listed/inner");
    mount(Some(other.as_str()), inner.as_str(), NOTHING, MsFlags::MS_BIND, NOTHING).unwrap();
    let c = format!("{inner}/c");
    world.remember(&c);
    mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING).unwrap();
    mount(Some(inner.as_str()), view.as_str(), NOTHING, MsFlags::MS_MOVE, NOTHING).unwrap();
    assert_eq!(world.opens(&format!("{view}/c")), Some(false), "in a mount that was moved");
    assert_eq!(world.opens(&c), None, "it is not there any more");
    umount2(view.as_str(), MntFlags::MNT_DETACH).unwrap();

    // Another mount namespace, from which the old one's mounts have no name.
    world.remember(&a);
    let held = world.actor.perform(&["hold", &listed]);
    assert!(held.ok, "{held:?}");
    let through = format!("/proc/self/fd/{}/a", held.detail);
    assert_eq!(world.opens(&through), Some(true), "in the old namespace");
    let left = world.actor.perform(&["leave-namespace"]);
    assert!(left.ok, "{left:?}");
    assert_eq!(world.opens(&through), Some(false), "from another namespace");
    assert_eq!(world.opens(&a), Some(true), "the new namespace's own");
}

#[test]
fn another_policy_or_right_is_decided_anew() {
    let Some(mut world) = World::new("swapped") else { return };
    let a = world.at("listed/a");
    let policy = World::policy("swapped", &world.cgroup, &world.root);
    let bare = Policy::of("swapped", &world.cgroup);
    let neighbour = Cgroup::create("swapped-neighbour");
    let other =
        Policy::of("swapped-neighbour", &neighbour).allow("file.read", &format!("{}/other/**", world.root));

    world.remember(&a);
    assert!(world.actor.perform(&["open-write", &a]).refused(), "allowed to read, not to write");
    assert!(world.actor.perform(&["mmap-exec", &a]).refused(), "allowed to read, not to map");
    assert_eq!(world.opens(&a), Some(true));

    world.enforcer.apply(&[&policy, &other]);
    world.remember(&a);
    let mut stranger = Actor::start(Place::Joining(&neighbour)).unwrap();
    assert!(stranger.perform(&["open-read", &a]).refused(), "under another policy");
    assert!(stranger.finish().is_empty());

    world.enforcer.apply(&[&bare, &other]);
    assert_eq!(world.opens(&a), Some(false), "the rule was removed");
    world.enforcer.apply(&[&policy, &other]);
    assert_eq!(world.opens(&a), Some(true), "the rule is back");
    world.remember(&a);

    let library = policy.allow("memory.libraries", &a);
    world.enforcer.apply(&[&library, &other]);
    world.repeat(&["mmap-exec", &a], &a);
}

/// What is only reported is reported each time.
#[test]
fn audited_opens_are_not_remembered() {
    let Some(mut world) = World::new("audited") else { return };
    let c = world.at("other/c");
    let policy = World::policy("audited", &world.cgroup, &world.root).audit();
    world.enforcer.apply(&[&policy]);
    let mark = world.enforcer.mark();
    let before = pins::counter(Counter::Remembered);
    let report = world.actor.perform(&["open-each", REPEATED, &c]);
    assert_eq!(pins::counter(Counter::Remembered), before);
    assert!(report.detail.bytes().all(|answer| answer == b'+'), "{report:?}");
    let events = world.enforcer.events_since(mark);
    assert_eq!(events.len(), REPEATED.parse::<usize>().unwrap(), "one event each");
}

/// Files and directories are renamed, linked, mounted and moved at random between listed and other places. Whatever is
/// remembered from before, each open is answered by the name that it has then.
#[test]
fn random_changes_never_leave_a_wrong_answer() {
    let Some(mut world) = World::new("random") else { return };
    let mut random = Random::seeded();
    mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING).unwrap();
    let mut tree = Tree::new(&world.root);
    let opens = asked("ENFORCER_VM_OPENS", OPENS, OPENS);
    let (mut done, mut allowed, mut refused) = (0, 0, 0);
    let remembered = pins::counter(Counter::Remembered);
    while done < opens {
        tree.change(&mut random);
        let paths = tree.paths();
        // Enough time, at times, for what is decided to be remembered.
        let rounds = if random.chance(25) { 8 } else { 1 + random.below(2) };
        for _ in 0..rounds {
            let mut op = vec!["open-each", "4"];
            op.extend(paths.iter().map(String::as_str));
            let answers = world.actor.perform(&op).detail;
            for (path, answer) in paths.iter().cycle().zip(answers.bytes()) {
                let expected = if tree.is_listed(path) { b'+' } else { b'-' };
                assert_eq!(answer as char, expected as char, "{path}\n{}", tree.story.join("\n"));
                *(if answer == b'+' { &mut allowed } else { &mut refused }) += 1;
            }
            done += answers.len();
        }
    }
    let remembered = pins::counter(Counter::Remembered) - remembered;
    println!("{done} opens, {allowed} allowed, {refused} refused, {remembered} remembered");
    assert!(allowed > opens / 10 && refused > opens / 10, "both happen");
    assert!(decides_each_time() || remembered > 10, "something is remembered");
    tree.unmount();
}

/// What lies where.
struct Tree {
    root: String,
    mounted: Option<String>,
    story: Vec<String>,
}

const DIRECTORIES: [&str; 6] =
    ["listed/one", "listed/two", "other/one", "other/two", "listed/three/four", "other/three/four"];

impl Tree {
    fn new(root: &str) -> Self {
        for directory in DIRECTORIES {
            fs::create_dir_all(format!("{root}/{directory}")).unwrap();
        }
        for file in 0..6 {
            fs::write(format!("{root}/listed/one/{file}"), "").unwrap();
        }
        Self { root: root.to_owned(), mounted: None, story: Vec::new() }
    }

    fn is_listed(&self, path: &str) -> bool {
        Path::new(path).starts_with(format!("{}/listed", self.root))
    }

    /// All files, by all their names.
    fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut left = vec![self.root.clone()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
                let path = format!("{directory}/{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() { left.push(path) } else { paths.push(path) }
            }
        }
        paths
    }

    fn change(&mut self, random: &mut Random) {
        let files = self.paths();
        let file = random.pick(&files).clone();
        let directory = format!("{}/{}", self.root, random.pick(&DIRECTORIES));
        let target = format!("{directory}/{}", random.below(12));
        let what = match random.below(12) {
            // Nothing: what is remembered stays.
            0..=3 => return,
            4..=6 => fs::rename(&file, &target).map(|()| format!("rename {file} {target}")),
            7 if !Path::new(&target).exists() => {
                fs::hard_link(&file, &target).map(|()| format!("link {file} {target}"))
            }
            8 if files.len() > 6 => fs::remove_file(&file).map(|()| format!("unlink {file}")),
            9 => fs::write(&target, "").map(|()| format!("write {target}")),
            10 => {
                let (one, two) =
                    (format!("{}/listed/three", self.root), format!("{}/other/three", self.root));
                let aside = format!("{}/aside", self.root);
                let swapped = fs::rename(&one, &aside)
                    .and_then(|()| fs::rename(&two, &one))
                    .and_then(|()| fs::rename(&aside, &two));
                // A mount below goes along.
                if let Some(at) = &mut self.mounted {
                    let moved = |from: &str, to: &str| Some(format!("{to}{}", at.strip_prefix(from)?));
                    if let Some(now) = moved(&one, &two).or_else(|| moved(&two, &one)) {
                        *at = now;
                    }
                }
                swapped.map(|()| format!("swap {one} {two}"))
            }
            11 => self.mount(&directory, random),
            _ => return,
        };
        match what {
            Ok(what) => self.story.push(what),
            // A mount point, or the other side of a mount.
            Err(error) => self.story.push(format!("({error})")),
        }
        let kept = self.story.len().saturating_sub(30);
        self.story.drain(..kept);
    }

    /// Mounts a directory over another one, moves the mount, or ends it.
    fn mount(&mut self, directory: &str, random: &mut Random) -> std::io::Result<String> {
        if let Some(at) = self.mounted.clone() {
            if random.chance(50) && at != directory {
                mount(Some(at.as_str()), directory, NOTHING, MsFlags::MS_MOVE, NOTHING)?;
                self.mounted = Some(directory.to_owned());
                return Ok(format!("move mount {at} {directory}"));
            }
            self.unmount();
            return Ok(format!("umount {at}"));
        }
        let from = format!("{}/{}", self.root, random.pick(&DIRECTORIES));
        mount(Some(from.as_str()), directory, NOTHING, MsFlags::MS_BIND, NOTHING)?;
        self.mounted = Some(directory.to_owned());
        Ok(format!("bind {from} {directory}"))
    }

    fn unmount(&mut self) {
        if let Some(at) = self.mounted.take() {
            umount2(at.as_str(), MntFlags::MNT_DETACH).unwrap();
        }
    }
}
