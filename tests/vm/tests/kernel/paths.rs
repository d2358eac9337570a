//! One object, many ways to it: the verdict is about the object's own path.

use std::fs;

use enforcer_common::hook::Hook::FileOpen;
use enforcer_common::verdict::Family::File;
use enforcer_common::verdict::Reason::{NoRule, PathTooLong};
use enforcer_vm_tests::actor::{self, Actor, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::{Table, case, evidence};
use enforcer_vm_tests::{servers, wait};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

#[test]
fn unusual_names() {
    let name = |attack, path: &str, rule: &'static str| {
        case(attack, &["open-read", path])
            .file(path)
            .given("file.read", rule)
            .allowed_by("file.read", path)
            .refused(FileOpen, File, NoRule)
            .about(path)
    };
    let long = format!("{{dir}}/{}", "n".repeat(255));
    Table::new(
        "names",
        vec![
            name("a space at the end", "{dir}/file ", "{dir}/file"),
            name("a tab", "{dir}/a\tb", "{dir}/a b").about(""),
            name("the same letters, composed otherwise", "{dir}/e\u{301}tude", "{dir}/étude"),
            name("letters that look alike", "{dir}/p\u{430}sswd", "{dir}/passwd"),
            name("another case", "{dir}/Secret", "{dir}/secret"),
            name("a name of 255 bytes", &long, "{dir}/n"),
            name("a hidden file", "{dir}/.secret", "{dir}/secret"),
            name("one letter more", "{dir}/secrets", "{dir}/secret"),
            name("one letter less", "{dir}/secre", "{dir}/secret"),
        ],
    )
    .check();
}

/// The path is that of the mount it was opened through.
#[test]
fn a_bind_mounted_view_has_a_path_of_its_own() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("bind-view");
    let (real, view) = (format!("{SCRATCH}/bind-real"), format!("{SCRATCH}/bind-view"));
    for directory in [&real, &view] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(format!("{real}/file"), "").unwrap();
    mount(Some(real.as_str()), view.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let ops = [op(&["open-read", &format!("{real}/file")]), op(&["open-read", &format!("{view}/file")])];
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let bare = actor::run(Place::Joining(&cgroup), &ops).unwrap();
        assert!(bare.iter().all(|report| report.ok), "without a policy: {bare:?}");
        if baseline_only() {
            return;
        }
        for (listed, expected) in [(&real, [true, false]), (&view, [false, true])] {
            let mark = enforcer.mark();
            enforcer.apply(&[&Policy::of("bind-view", &cgroup).allow("file.read", &format!("{listed}/**"))]);
            let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
            let events = enforcer.events_since(mark);
            let got: Vec<_> = reports.iter().map(|report| report.ok).collect();
            assert_eq!(got, expected, "{listed} is listed\n{}", evidence(&reports, &events));
        }
    }));
    umount2(view.as_str(), MntFlags::MNT_DETACH).unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// A root that was moved does not make other files look like listed ones.
#[test]
fn a_jail_that_imitates_listed_paths() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("jail");
    let jail = format!("{SCRATCH}/jail");
    let _ = fs::remove_dir_all(&jail);
    fs::create_dir_all(format!("{jail}/etc")).unwrap();
    fs::write(format!("{jail}/etc/listed"), "fake").unwrap();
    let ops = [op(&["chroot", &jail]), op(&["open-read", "/etc/listed"])];
    let bare = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    assert!(bare.iter().all(|report| report.ok), "without a policy: {bare:?}");
    if baseline_only() {
        return;
    }
    let policy =
        Policy::of("jail", &cgroup).allow("privileges.allow", "chroot").allow("file.read", "/etc/listed");
    enforcer.apply(&[&policy]);
    let mark = enforcer.mark();
    let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    let events = enforcer.events_since(mark);
    assert!(reports[0].ok && reports[1].refused(), "{}", evidence(&reports, &events));
    assert_eq!(events[0].object("path"), format!("{jail}/etc/listed"), "the event tells the real path");
}

/// A task that has opened files below the root of its namespace does not go on believing that it is the root.
#[test]
fn a_root_that_was_pivoted_away_has_another_name() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("pivoted");
    // On the root file system itself, which `SCRATCH` is not.
    let (directory, new_root) = ("/pivoted", "/pivoted/new");
    fs::create_dir_all(new_root).unwrap();
    let file = format!("{directory}/file");
    fs::write(&file, "").unwrap();
    let ops = [op(&["open-below-old-root", &file, new_root])];
    let bare = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    assert!(bare[0].ok, "without a policy: {bare:?}");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("pivoted", &cgroup)
        .allow("file.read", &file)
        .allow("file.create", &format!("{new_root}/old"))
        .allow("privileges.allow", "mount")
        .allow("privileges.allow", "pivot-root");
    enforcer.apply(&[&policy]);
    let mark = enforcer.mark();
    let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    let events = enforcer.events_since(mark);
    assert!(reports[0].refused(), "{}", evidence(&reports, &events));
    assert_eq!(events.len(), 1, "{}", evidence(&reports, &events));
    assert_eq!(events[0].object("path"), format!("/old{file}"), "the name after the change");
    enforcer.apply(&[&policy.allow("file.read", &format!("/old{file}"))]);
    let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    assert!(reports[0].ok, "{reports:?}");
    fs::remove_dir_all(directory).unwrap();
}

/// The rule is about the name; whoever may change what it leads to decides what that means.
#[test]
fn the_host_may_replace_a_listed_file() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("replaced");
    let file = format!("{SCRATCH}/replaced");
    fs::write(&file, "old").unwrap();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("replaced", &cgroup).allow("file.read", &file)]);
    let mut actor = Actor::start(Place::Joining(&cgroup)).unwrap();
    assert_eq!(actor.perform(&["read", &file]).detail, "old");
    fs::write(format!("{file}.new"), "new").unwrap();
    fs::rename(format!("{file}.new"), &file).unwrap();
    assert_eq!(actor.perform(&["read", &file]).detail, "new");
    // The other way round: an object that was read under a listed name is refused under another one.
    fs::rename(&file, format!("{file}.moved")).unwrap();
    let report = actor.perform(&["read", &format!("{file}.moved")]);
    assert!(report.refused(), "{report:?}");
}

/// A tree deeper than a path can be long.
#[test]
fn a_name_longer_than_path_max() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("too-long");
    let top = format!("{SCRATCH}/deep");
    let _ = fs::remove_dir_all(&top);
    fs::create_dir_all(&top).unwrap();
    let component = "d".repeat(200);
    // 15 × 201 bytes and the rest still fit into 4096 bytes, 30 × 201 do not.
    let mut at = nix::fcntl::open(
        top.as_str(),
        // Closed on exec, or everybody would inherit it, and be judged for it.
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .unwrap();
    for depth in 1..=30 {
        nix::sys::stat::mkdirat(&at, component.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
        at = nix::fcntl::openat(&at, component.as_str(), flags, nix::sys::stat::Mode::empty()).unwrap();
        if depth == 15 || depth == 30 {
            let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY;
            drop(nix::fcntl::openat(&at, "file", flags, nix::sys::stat::Mode::S_IRUSR).unwrap());
        }
    }
    let ops = [op(&["deep-open", &top, &component, "15"]), op(&["deep-open", &top, &component, "30"])];
    let bare = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    assert!(bare.iter().all(|report| report.ok), "without a policy: {bare:?}");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("too-long", &cgroup).allow("file.read", &format!("{top}/**"))]);
    let mark = enforcer.mark();
    let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    let events = enforcer.events_since(mark);
    assert!(reports[0].ok, "a name that fits\n{}", evidence(&reports, &events));
    assert!(reports[1].refused(), "no rule can name it\n{}", evidence(&reports, &events));
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].text("reason"), PathTooLong.name());
    let _ = fs::remove_dir_all(&top);
}

/// A service in a mount namespace of its own, as sandboxed units are, talks to sockets that were bound outside, under the
/// names that they have where it is.
#[test]
fn a_socket_bound_in_another_mount_namespace() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("namespace-socket");
    let directory = format!("{SCRATCH}/namespace-socket");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let socket = format!("{directory}/socket");
    let server = servers::unix_stream(&socket);
    let ops = [op(&["unix-connect", &socket])];
    let perform = || {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // What this thread starts is in its namespace, whose mounts are copies.
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                actor::run(Place::Joining(&cgroup), &ops).unwrap()
            });
            inside.join().unwrap()
        })
    };
    let bare = perform();
    assert!(bare[0].ok, "without a policy: {bare:?}");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("namespace-socket", &cgroup).allow("network.families", "unix");
    let mark = enforcer.mark();
    enforcer.apply(&[&policy.clone().allow("network.connect", &format!("unix {socket}"))]);
    let reports = perform();
    let events = enforcer.events_since(mark);
    assert!(reports[0].ok && events.is_empty(), "listed\n{}", evidence(&reports, &events));
    wait::until("both connections", wait::SOON, || (server.arrivals() == 2).then_some(()));

    let mark = enforcer.mark();
    enforcer.apply(&[&policy]);
    let reports = perform();
    let events = enforcer.events_since(mark);
    let [event] = events.as_slice() else { panic!("one event, please\n{}", evidence(&reports, &events)) };
    assert!(reports[0].refused(), "unlisted\n{}", evidence(&reports, &events));
    assert_eq!((event.object("path"), event.text("reason")), (socket.as_str(), NoRule.name()), "{event}");
    assert_eq!(server.arrivals(), 2);
}
