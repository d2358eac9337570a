//! Programs that are pinned to fs-verity digests.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use enforcer::policy::digest::ContentDigest;
use enforcer_common::hook::Hook::{BprmCheckDigest, MmapFile};
use enforcer_common::verdict::Reason::Digest;
use enforcer_vm_tests::actor::{self, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::report::Report;
use enforcer_vm_tests::scenario::make_executable;
use enforcer_vm_tests::stub::exiting;
use enforcer_vm_tests::verity::{self, Algorithm, Verity};
use nix::fcntl::{RenameFlags, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// How a program ends that must never run.
const EVIL: u8 = 9;

fn mounted(name: &str) -> Verity {
    let directory = format!("{SCRATCH}/{name}");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(SCRATCH).unwrap();
    Verity::mount(Path::new(&directory))
}

fn exec(cgroup: &Cgroup, path: &str) -> Report {
    actor::run(Place::Joining(cgroup), &[op(&["exec", path])]).unwrap().remove(0)
}

#[track_caller]
fn runs(enforcer: &mut Enforcer, cgroup: &Cgroup, path: &str, what: &str) {
    let mark = enforcer.mark();
    let report = exec(cgroup, path);
    assert!(report.ok && report.detail == "exit 0", "{what}: {report:?}");
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "{what}: {events:#?}");
}

/// Refused at the start, for what it holds: one event that names the fs-verity digest, if there is one, and how to allow
/// it.
#[track_caller]
fn refused(enforcer: &mut Enforcer, cgroup: &Cgroup, path: &str, found: Option<ContentDigest>, what: &str) {
    let mark = enforcer.mark();
    let report = exec(cgroup, path);
    assert!(report.refused() && report.step == "exec", "{what}: {report:?}");
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{what}: {events:#?}");
    let event = &events[0];
    assert_eq!(
        [event.text("hook"), event.text("reason"), event.text("verdict"), event.text("operation")],
        [BprmCheckDigest.name(), Digest.name(), "denied", "exec"],
        "{what}: {event}"
    );
    assert_eq!([event.object("path"), event.object("sha256")], [path, ""], "{what}: {event}");
    let (digest, suggestion) = match found {
        Some(digest) => {
            let digest = format!("sha256:{digest}");
            let entry = format!("[exec] allow = [{{ path = \"{path}\", fsverity = \"{digest}\" }}]");
            (digest, entry)
        }
        None => (String::new(), String::new()),
    };
    assert_eq!(
        [event.object("fsverity"), &event.suggestion()],
        [&digest[..], &suggestion[..]],
        "{what}: {event}"
    );
}

#[test]
fn a_sealed_program_starts_by_its_digest() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("sealed");
    let files = mounted("sealed");
    let [good, evil] = [0, EVIL].map(exiting);
    let path = files.path("tool");
    let good_digest = files.program("tool", &good);
    runs(&mut enforcer, &cgroup, &path, "without a policy");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("sealed", &cgroup);
    let pinned = policy.clone().pin_verity(&path, &[good_digest]);
    enforcer.apply(&[&pinned]);
    runs(&mut enforcer, &cgroup, &path, "as pinned");
    assert!(enforcer.explain(&pinned, &[format!("exec {path}")])[0].0, "as pinned");
    // What is mapped by others is another question, as with every pin.
    let mark = enforcer.mark();
    let report = actor::run(Place::Joining(&cgroup), &[op(&["mmap-exec", &path])]).unwrap().remove(0);
    assert!(report.refused(), "{report:?}");
    assert_eq!(enforcer.events_since(mark)[0].text("hook"), MmapFile.name());

    let evil_digest = files.program("tool", &evil);
    assert_ne!(evil_digest, good_digest);
    refused(&mut enforcer, &cgroup, &path, Some(evil_digest), "another program, sealed, too");
    assert!(!enforcer.explain(&pinned, &[format!("exec {path}")])[0].0, "another program");
    // What was suggested does allow it.
    enforcer.apply(&[&policy.clone().pin_verity(&path, &[good_digest, evil_digest])]);
    assert_eq!(exec(&cgroup, &path).detail, format!("exit {EVIL}"));
    enforcer.apply(&[&pinned]);

    // The very content, but nobody holds it to that.
    fs::remove_file(&path).unwrap();
    make_executable(Path::new(&path), &good);
    refused(&mut enforcer, &cgroup, &path, None, "not sealed");
    assert!(!enforcer.explain(&pinned, &[format!("exec {path}")])[0].0, "not sealed");
    verity::enable(Path::new(&path), Algorithm::Sha256).unwrap();
    runs(&mut enforcer, &cgroup, &path, "sealed again");

    fs::remove_file(&path).unwrap();
    make_executable(Path::new(&path), &good);
    match verity::enable(Path::new(&path), Algorithm::Sha512) {
        // 6.1 has it as a module, which is not in the guest.
        Err(error) if error.raw_os_error() == Some(libc::ENOPKG) => {
            println!("skipped on this kernel: no SHA-512")
        }
        enabled => {
            enabled.unwrap();
            assert_eq!(verity::digest_of(Path::new(&path)), None);
            refused(&mut enforcer, &cgroup, &path, None, "sealed with another hash");
        }
    }
}

/// The kinds of digests do not stand for each other, and either is enough.
#[test]
fn a_digest_counts_for_its_kind() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("kinds");
    let files = mounted("kinds");
    let good = exiting(0);
    let path = files.path("tool");
    let verity = files.program("tool", &good);
    let sha256 = ContentDigest::of(&good[..]).unwrap();
    assert_ne!(verity, sha256);
    if baseline_only() {
        return;
    }
    let policy = Policy::of("kinds", &cgroup);
    enforcer.apply(&[&policy.clone().pin_verity(&path, &[sha256])]);
    refused(&mut enforcer, &cgroup, &path, Some(verity), "the SHA-256 as an fs-verity digest");
    enforcer.apply(&[&policy.clone().pin(&path, &[verity])]);
    let report = exec(&cgroup, &path);
    assert!(report.refused(), "the fs-verity digest as a SHA-256: {report:?}");
    enforcer.apply(&[&policy.clone().pin(&path, &[sha256])]);
    runs(&mut enforcer, &cgroup, &path, "a sealed program by its SHA-256");
    let both = policy.pin(&path, &[sha256]).pin_verity(&path, &[verity]);
    enforcer.apply(&[&both]);
    runs(&mut enforcer, &cgroup, &path, "by either");
    fs::remove_file(&path).unwrap();
    make_executable(Path::new(&path), &good);
    runs(&mut enforcer, &cgroup, &path, "by its SHA-256, not sealed");
    make_executable(Path::new(&path), &exiting(EVIL));
    let mark = enforcer.mark();
    let report = exec(&cgroup, &path);
    assert!(report.refused(), "by neither: {report:?}");
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0].object("sha256"), ContentDigest::of(&exiting(EVIL)[..]).unwrap().to_string());
}

/// Two sealed files change places all the time: whichever is looked at is the one that runs, or does not.
#[test]
fn what_is_looked_at_is_what_runs() {
    const STARTS: usize = 300;
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("swapped");
    let files = mounted("swapped");
    let (path, other) = (files.path("tool"), files.path("other"));
    let good = files.program("tool", &exiting(0));
    files.program("other", &exiting(EVIL));
    if !baseline_only() {
        enforcer.apply(&[&Policy::of("swapped", &cgroup).pin_verity(&path, &[good])]);
    }
    let done = AtomicBool::new(false);
    let starts = vec![op(&["exec", &path]); STARTS];
    let reports = std::thread::scope(|scope| {
        scope.spawn(|| {
            let here = nix::fcntl::AT_FDCWD;
            while !done.load(Ordering::Relaxed) {
                renameat2(here, path.as_str(), here, other.as_str(), RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let reports = actor::run(Place::Joining(&cgroup), &starts);
        done.store(true, Ordering::Relaxed);
        reports.unwrap()
    });
    assert_eq!(reports.len(), STARTS);
    let ended = |status: u8| {
        let detail = format!("exit {status}");
        reports.iter().filter(|report| report.ok && report.detail == detail).count()
    };
    let (good, evil) = (ended(0), ended(EVIL));
    let refusals = reports.iter().filter(|report| report.refused()).count();
    println!("{good} starts of the one, {evil} of the other, {refusals} refused");
    assert!(good > 0, "never met: {good} {evil} {refusals}");
    if baseline_only() {
        assert_eq!(good + evil, STARTS, "{reports:?}");
        assert!(evil > 0);
    } else {
        assert_eq!((good + refusals, evil), (STARTS, 0), "{reports:?}");
        assert!(refusals > 0);
    }
}

/// An overlay shows the files below it as files of its own, which have no digest, so they are refused.
#[test]
fn on_an_overlay_nothing_is_sealed() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("sealed-overlay");
    let files = mounted("sealed-lower");
    let good = files.program("tool", &exiting(0));
    let directory = format!("{SCRATCH}/sealed-overlay");
    let _ = fs::remove_dir_all(&directory);
    for name in ["upper", "work", "merged"] {
        fs::create_dir_all(format!("{directory}/{name}")).unwrap();
    }
    let merged = format!("{directory}/merged");
    let options = format!("lowerdir={},upperdir={directory}/upper,workdir={directory}/work", files.path(""));
    mount(Some("overlay"), merged.as_str(), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .unwrap();
    let path = format!("{merged}/tool");
    runs(&mut enforcer, &cgroup, &path, "without a policy");
    if !baseline_only() {
        enforcer.apply(&[&Policy::of("sealed-overlay", &cgroup).pin_verity(&path, &[good])]);
        refused(&mut enforcer, &cgroup, &path, None, "through an overlay");
    }
    umount2(merged.as_str(), MntFlags::MNT_DETACH).unwrap();
}
