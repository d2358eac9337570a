//! Programs that are pinned to contents.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;

use enforcer::policy::digest::ContentDigest;
use enforcer_common::hook::Hook::{BprmCheckDigest, BprmCheckSecurity, MmapFile};
use enforcer_common::verdict::Family::{Exec, Memory};
use enforcer_common::verdict::Reason::{Digest, NoRule, Unverifiable};
use enforcer_vm_tests::actor::{self, Actor, Place, op, program};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::events::Event;
use enforcer_vm_tests::fuse::{self, Fuse};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::random::Random;
use enforcer_vm_tests::report::Report;
use enforcer_vm_tests::scenario::{Table, case, copy_of_actor, make_executable};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use serde_json::json;

/// A byte of every ELF file that no loader looks at (`EI_PAD`).
const UNUSED: usize = 12;

fn directory(name: &str) -> String {
    let directory = format!("{SCRATCH}/{name}");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn digest_of(path: &str) -> ContentDigest {
    ContentDigest::of(File::open(path).unwrap()).unwrap()
}

fn tool(path: &str) -> ContentDigest {
    copy_of_actor(Path::new(path));
    digest_of(path)
}

fn changed(path: &str) -> Vec<u8> {
    let mut content = fs::read(path).unwrap();
    content[UNUSED] ^= 1;
    content
}

fn flip(file: &File) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, UNUSED as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1], UNUSED as u64).unwrap();
}

fn writable(path: &str) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn in_place(path: &str) {
    flip(&writable(path));
}

fn with_old_times(path: &str) {
    let metadata = fs::metadata(path).unwrap();
    let file = writable(path);
    flip(&file);
    let times = FileTimes::new()
        .set_modified(metadata.modified().unwrap())
        .set_accessed(metadata.accessed().unwrap());
    file.set_times(times).unwrap();
}

fn by_rename(path: &str) {
    let other = format!("{path}.new");
    make_executable(Path::new(&other), &changed(path));
    fs::rename(other, path).unwrap();
}

fn through_a_link(path: &str) {
    let link = format!("{path}.link");
    fs::hard_link(path, &link).unwrap();
    flip(&writable(&link));
    fs::remove_file(link).unwrap();
}

fn through_a_mapping(path: &str) {
    let file = writable(path);
    let length = NonZeroUsize::new(4096).unwrap();
    // SAFETY: a fresh mapping at a place of the kernel's choosing, gone again before anybody else looks at the file.
    unsafe {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let page = mmap(None, length, protection, MapFlags::MAP_SHARED, &file, 0).unwrap();
        // Only the mapping is left when the write happens.
        drop(file);
        let byte = page.cast::<u8>().add(UNUSED);
        byte.write(byte.read() ^ 1);
        munmap(page, length.get()).unwrap();
    }
}

type Change = fn(&str);

const CHANGES: &[(&str, Change)] = &[
    ("in place", in_place),
    ("with its old times", with_old_times),
    ("by rename", by_rename),
    ("through a hard link", through_a_link),
    ("through a shared mapping", through_a_mapping),
];

fn exec(cgroup: &Cgroup, path: &str) -> Report {
    actor::run(Place::Joining(cgroup), &[op(&["exec", path])]).unwrap().remove(0)
}

#[track_caller]
fn runs(cgroup: &Cgroup, path: &str, what: &str) {
    let report = exec(cgroup, path);
    assert!(report.ok && report.detail == "exit 0", "{what}: {report:?}");
}

/// Refused at the start, for what it holds; one event, which says so and how to allow it.
#[track_caller]
fn refused(enforcer: &mut Enforcer, cgroup: &Cgroup, start: &str, about: &str, what: &str) {
    let mark = enforcer.mark();
    let report = exec(cgroup, start);
    assert!(report.refused() && report.step == "exec", "{what}: {report:?}");
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{what}: {events:#?}");
    is_about(&events[0], about, "denied");
}

#[track_caller]
fn is_about(event: &Event, path: &str, verdict: &str) {
    assert_eq!(
        [event.text("hook"), event.text("reason"), event.text("verdict"), event.text("operation")],
        [BprmCheckDigest.name(), Digest.name(), verdict, "exec"],
        "{event}"
    );
    assert_eq!(event.object("path"), path, "{event}");
    let found = digest_of(path).to_string();
    assert_eq!(event.object("sha256"), found, "{event}");
    assert_eq!(
        event.suggestion(),
        format!("[exec] allow = [{{ path = \"{path}\", sha256 = \"{found}\" }}]"),
        "{event}"
    );
}

#[test]
fn a_changed_byte_is_refused_at_the_next_start() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("contents");
    let tool_path = format!("{}/tool", directory("contents"));
    let good = tool(&tool_path);
    let original = fs::read(&tool_path).unwrap();
    for (what, change) in CHANGES {
        change(&tool_path);
        assert_ne!(digest_of(&tool_path), good, "{what}");
        runs(&cgroup, &tool_path, what);
        tool(&tool_path);
    }
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("contents", &cgroup).pin(&tool_path, &[good])]);
    for (what, change) in CHANGES {
        let mark = enforcer.mark();
        runs(&cgroup, &tool_path, what);
        assert!(enforcer.events_since(mark).is_empty(), "{what}");
        change(&tool_path);
        refused(&mut enforcer, &cgroup, &tool_path, &tool_path, what);
        // Put back by the same way, it starts again.
        change(&tool_path);
        assert_eq!(fs::read(&tool_path).unwrap(), original, "{what}");
        runs(&cgroup, &tool_path, what);
    }
    // Longer and shorter by a byte.
    fs::write(&tool_path, [&original[..], b"\0"].concat()).unwrap();
    refused(&mut enforcer, &cgroup, &tool_path, &tool_path, "one byte more");
    fs::write(&tool_path, &original[..original.len() - 1]).unwrap();
    refused(&mut enforcer, &cgroup, &tool_path, &tool_path, "one byte less");
    fs::write(&tool_path, &original).unwrap();
    runs(&cgroup, &tool_path, "as it was");
}

/// What the kernel does for us: nobody writes to a program while it is being checked or runs.
#[test]
fn who_writes_and_who_starts_exclude_each_other() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("writers");
    let path = format!("{}/tool", directory("writers"));
    let good = tool(&path);
    if !baseline_only() {
        enforcer.apply(&[&Policy::of("writers", &cgroup).pin(&path, &[good])]);
    }
    let writer = writable(&path);
    assert_eq!(exec(&cgroup, &path).errno, libc::ETXTBSY, "a start while somebody writes");
    drop(writer);
    let file = writable(&path);
    let length = NonZeroUsize::new(4096).unwrap();
    // SAFETY: a fresh mapping at a place of the kernel's choosing, which nobody touches.
    let page = unsafe { mmap(None, length, ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &file, 0) }.unwrap();
    drop(file);
    assert_eq!(exec(&cgroup, &path).errno, libc::ETXTBSY, "a start while a mapping may write");
    // SAFETY: the mapping from above.
    unsafe { munmap(page, length.get()) }.unwrap();
    let running = Actor::start_as(Place::Joining(&cgroup), &path).unwrap();
    for (what, result) in [
        ("open", OpenOptions::new().write(true).open(&path).map(drop)),
        ("truncate", nix::unistd::truncate(Path::new(&path), 10).map_err(Into::into)),
    ] {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ETXTBSY), "{what} while it runs");
    }
    let _ = running.finish();
    assert_eq!(digest_of(&path), good);
}

#[test]
fn several_contents() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("several");
    let path = format!("{}/tool", directory("several"));
    let first = tool(&path);
    let other = changed(&path);
    if baseline_only() {
        return;
    }
    in_place(&path);
    let second = digest_of(&path);
    let policy = Policy::of("several", &cgroup);
    enforcer.apply(&[&policy.clone().pin(&path, &[first, second])]);
    runs(&cgroup, &path, "the second content");
    copy_of_actor(Path::new(&path));
    runs(&cgroup, &path, "the first content");
    fs::write(&path, [&other[..], b"x"].concat()).unwrap();
    refused(&mut enforcer, &cgroup, &path, &path, "neither");
    // Another rule that lets it start whatever it holds wins: rules add up.
    enforcer.apply(&[&policy.pin(&path, &[first]).allow("exec.allow", &format!("{SCRATCH}/several/*"))]);
    runs(&cgroup, &path, "a pin and a pattern");
}

#[test]
fn pinned_programs_are_no_libraries() {
    const NOTHING: &str = "{ path = \"{dir}/tool\", sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\" }";
    Table::new(
        "pinned",
        vec![
            case("another content than pinned", &["exec", "{dir}/tool"])
                .program("{dir}/tool")
                .given("exec.allow", NOTHING)
                .allowed_by("exec.allow", "{dir}/tool")
                .refused(BprmCheckDigest, Exec, Digest)
                .needing("exec")
                .about("{dir}/tool"),
            case("another content through a descriptor", &["execveat", "{dir}/tool"])
                .program("{dir}/tool")
                .given("exec.allow", NOTHING)
                .allowed_by("exec.allow", "{dir}/tool")
                .refused(BprmCheckDigest, Exec, Digest)
                .needing("exec")
                .about("{dir}/tool"),
            case("a pinned program mapped as code, as ld.so would", &["mmap-exec", "{dir}/tool"])
                .program("{dir}/tool")
                .given("exec.allow", NOTHING)
                .allowed_by("memory.libraries", "{dir}/tool")
                .refused(MmapFile, Memory, NoRule)
                .needing("library")
                .about("{dir}/tool"),
            case("a pinned program under another name", &["exec", "{dir}/other"])
                .program("{dir}/other")
                .given("exec.allow", NOTHING)
                .allowed_by("exec.allow", "{dir}/other")
                .refused(BprmCheckSecurity, Exec, NoRule)
                .needing("exec")
                .about("{dir}/other"),
        ],
    )
    .check();
}

/// A program that was checked may run, but not map its own file again: it might not be the same any more.
#[test]
fn a_pinned_program_maps_itself_once() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("itself");
    let path = format!("{}/tool", directory("itself"));
    let good = tool(&path);
    let again = op(&["exec", &path, "quiet", "mmap-exec", &path]);
    let run = || actor::run(Place::Joining(&cgroup), std::slice::from_ref(&again)).unwrap().remove(0).detail;
    assert_eq!(run(), "exit 0", "without a policy");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("itself", &cgroup).pin(&path, &[good])]);
    let mark = enforcer.mark();
    assert_eq!(run(), "exit 1");
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!([events[0].text("hook"), events[0].object("path")], [MmapFile.name(), path.as_str()]);
}

#[test]
fn scripts_and_interpreters() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("scripts");
    let directory = directory("scripts");
    let (script, interpreter) = (format!("{directory}/script"), format!("{directory}/interpreter"));
    let write = |more: &str| {
        make_executable(Path::new(&script), format!("#!{interpreter} true\n{more}").as_bytes());
        digest_of(&script)
    };
    let good = [write("good\n"), tool(&interpreter)];
    runs(&cgroup, &script, "without a policy");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("scripts", &cgroup);
    enforcer.apply(&[&policy.clone().pin(&script, &good[..1]).pin(&interpreter, &good[1..])]);
    runs(&cgroup, &script, "both as pinned");
    write("evil\n");
    refused(&mut enforcer, &cgroup, &script, &script, "a changed script");
    write("good\n");
    in_place(&interpreter);
    refused(&mut enforcer, &cgroup, &script, &interpreter, "a changed interpreter");
    // One of them pinned, the other not.
    enforcer.apply(&[&policy.clone().pin(&script, &good[..1]).allow("exec.allow", &interpreter)]);
    runs(&cgroup, &script, "a pinned script and any interpreter");
    write("evil\n");
    refused(&mut enforcer, &cgroup, &script, &script, "a changed script and any interpreter");
    tool(&interpreter);
    enforcer.apply(&[&policy.allow("exec.allow", &script).pin(&interpreter, &good[1..])]);
    runs(&cgroup, &script, "any script and a pinned interpreter");
    in_place(&interpreter);
    refused(&mut enforcer, &cgroup, &script, &interpreter, "any script and a changed interpreter");
}

#[test]
fn what_a_launcher_starts_is_checked() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("launched");
    let path = format!("{}/tool", directory("launched"));
    let good = tool(&path);
    let start = || actor::status(Place::Launched(&cgroup), Path::new(&path), &["true"]).unwrap().code();
    assert_eq!(start(), Some(0), "without a policy");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("launched", &cgroup).pin(&path, &[good])]);
    assert_eq!(start(), Some(0), "as pinned");
    in_place(&path);
    let mark = enforcer.mark();
    assert_eq!(start(), Some(73), "changed");
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{events:#?}");
    is_about(&events[0], &path, "denied");
}

#[test]
fn audit_reports_and_lets_start() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("audited");
    let path = format!("{}/tool", directory("audited"));
    let good = tool(&path);
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("audited", &cgroup).pin(&path, &[good]).audit()]);
    in_place(&path);
    let mark = enforcer.mark();
    runs(&cgroup, &path, "audited");
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{events:#?}");
    is_about(&events[0], &path, "audited");
}

#[test]
fn on_an_overlay() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("overlay");
    let directory = directory("overlay");
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(format!("{directory}/{name}")).unwrap();
    }
    let good = tool(&format!("{directory}/lower/tool"));
    let merged = format!("{directory}/merged");
    let options = format!("lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work");
    mount(Some("overlay"), merged.as_str(), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .unwrap();
    let path = format!("{merged}/tool");
    runs(&cgroup, &path, "without a policy");
    if !baseline_only() {
        enforcer.apply(&[&Policy::of("overlay", &cgroup).pin(&path, &[good])]);
        runs(&cgroup, &path, "from the lower layer");
        in_place(&path);
        refused(&mut enforcer, &cgroup, &path, &path, "copied up and changed");
        in_place(&path);
        runs(&cgroup, &path, "from the upper layer");
        let writer = writable(&path);
        assert_eq!(exec(&cgroup, &path).errno, libc::ETXTBSY, "a start while somebody writes");
        drop(writer);
        let running = Actor::start_as(Place::Joining(&cgroup), &path).unwrap();
        let open = OpenOptions::new().write(true).open(&path);
        assert_eq!(open.unwrap_err().raw_os_error(), Some(libc::ETXTBSY), "a writer while it runs");
        let _ = running.finish();
    }
    umount2(merged.as_str(), MntFlags::MNT_DETACH).unwrap();
}

/// Where a process makes the content up at each read, what was read once says nothing.
#[test]
fn on_fuse() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("on-fuse");
    let directory = directory("on-fuse");
    // The module makes the device; where FUSE is built in, there is nothing to load.
    let _ = std::process::Command::new("modprobe").arg("fuse").status();
    let content = fs::read(program()).unwrap();
    let good = ContentDigest::of(&content[..]).unwrap();
    let Some(mounted) = Fuse::mount(Path::new(&directory), content) else {
        println!("skipped on this kernel: no FUSE");
        return;
    };
    let path = format!("{directory}/{}", fuse::NAME);
    runs(&cgroup, &path, "without a policy");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("on-fuse", &cgroup);
    enforcer.apply(&[&policy.clone().allow("exec.allow", &path)]);
    runs(&cgroup, &path, "not pinned");
    enforcer.apply(&[&policy.pin(&path, &[good])]);
    let mark = enforcer.mark();
    let report = exec(&cgroup, &path);
    assert!(report.refused() && report.step == "exec", "{report:?}");
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(
        [events[0].text("hook"), events[0].text("reason"), events[0].object("path")],
        [BprmCheckDigest.name(), Unverifiable.name(), path.as_str()],
        "{}",
        events[0]
    );
    assert!(events[0].object("sha256").is_empty() && events[0].suggestion().is_empty(), "{}", events[0]);
    drop(mounted);
}

/// Starts go on while the policy's pins change: what both allow always starts, what neither allows never does.
#[test]
fn pins_change_under_running_starts() {
    const SWAPS: usize = 100;
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("repinned");
    let directory = directory("repinned");
    let path = |name: &str| format!("{directory}/{name}");
    // Scripts, because small files make for many starts. The interpreter is not pinned.
    let script = format!("#!{} true\n", program());
    let good = ["steady", "widened", "loose", "turned", "wrong", "gone"].map(|name| {
        make_executable(Path::new(&path(name)), script.as_bytes());
        digest_of(&path(name))
    })[0];
    if baseline_only() {
        return;
    }
    let bad = [ContentDigest([1; 32]), ContentDigest([2; 32])];
    let common = Policy::of("repinned", &cgroup).pin(&path("steady"), &[good]);
    let even = common
        .clone()
        .pin(&path("widened"), &[good])
        .pin(&path("loose"), &[good])
        .pin(&path("turned"), &[good])
        .pin(&path("wrong"), &bad[..1])
        .pin(&path("gone"), &bad[..1]);
    let odd = common
        .pin(&path("widened"), &[bad[0], good])
        .allow("exec.allow", &path("loose"))
        .pin(&path("turned"), &bad)
        .pin(&path("wrong"), &bad[1..]);
    enforcer.apply(&[&even]);
    let entry = |expect: &str, name: &str| json!({ "expect": expect, "op": ["exec", path(name)] });
    let table = json!([
        entry("allow", "steady"),
        entry("allow", "widened"),
        entry("allow", "loose"),
        entry("either", "turned"),
        entry("deny", "wrong"),
        entry("deny", "gone"),
    ]);
    let mut actor = Actor::start(Place::Joining(&cgroup)).unwrap();
    actor.ask(&op(&["loop", &table.to_string()]));
    let first = actor.report();
    assert!(first.ok, "before the swaps: {first:?}");
    enforcer.swap_in_process([&[&odd], &[&even]], SWAPS, |swap| {
        for report in actor.pending() {
            assert!(report.ok, "a wrong verdict after {swap} swaps: {report:?}");
        }
    });
    let last = actor.finish();
    assert!(last.iter().all(|report| report.ok), "{last:?}");
    let summary = last.last().map_or("", |report| &report.detail);
    println!("{summary}");
    // `turned` was met under both policies.
    let number = |at: usize| summary.split(' ').nth(at).and_then(|word| word.parse::<u64>().ok()).unwrap();
    let (rounds, allowed) = (number(0), number(2));
    assert!(allowed > 3 * rounds && allowed < 4 * rounds, "{summary}");
    // In the end nothing is left of the other policy.
    enforcer.apply(&[&even]);
    runs(&cgroup, &path("turned"), "after the swaps");
}

/// Kernel and `explain` agree about random programs, of which some hold what they should.
#[test]
fn the_kernel_decides_about_contents_like_explain() {
    const PROGRAMS: usize = 200;
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("pinned-agreement");
    let directory = directory("pinned-agreement");
    let mut random = Random::seeded();
    let mut paths = Vec::new();
    let mut policy =
        Policy::of("pinned-agreement", &cgroup).allow("exec.allow", &format!("{directory}/any-*"));
    let mut digests = Vec::new();
    for number in 0..PROGRAMS {
        let kind = *random.pick(&["any", "some", "other"]);
        let path = format!("{directory}/{kind}-{number}");
        let size = if random.chance(10) { 100_000 } else { 1 + random.below(300) };
        let byte = u8::try_from(random.below(256)).unwrap();
        // No program: starting it comes to nothing after it was allowed.
        make_executable(Path::new(&path), &vec![byte; size]);
        digests.push(digest_of(&path));
        let mut contents = Vec::new();
        for _ in 0..random.below(3) {
            contents.push(*random.pick(&digests));
        }
        if random.chance(40) {
            contents.push(digest_of(&path));
        }
        contents.sort_unstable();
        contents.dedup();
        if !contents.is_empty() && random.chance(80) {
            policy = policy.pin(&path, &contents);
        } else if random.chance(20) {
            policy = policy.allow("exec.allow", &path);
        }
        paths.push(path);
    }
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&policy]);
    let ops: Vec<_> = paths.iter().map(|path| op(&["exec", path])).collect();
    let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    let questions: Vec<String> = paths.iter().map(|path| format!("exec {path}")).collect();
    let answers = enforcer.explain(&policy, &questions);
    let mut counts = [0, 0];
    for ((path, report), (answer, line)) in paths.iter().zip(&reports).zip(&answers) {
        let verdict = match report.errno {
            libc::ENOEXEC => Some(true),
            libc::EPERM => Some(false),
            _ => None,
        };
        assert_eq!(verdict, Some(*answer), "{path}: {report:?}, {line}");
        counts[usize::from(*answer)] += 1;
    }
    println!("{} allowed, {} denied, all as explained", counts[1], counts[0]);
    assert!(counts.iter().all(|count| *count > PROGRAMS / 8), "the programs were too much alike");
    assert!(Path::new(&program()).exists());
}
