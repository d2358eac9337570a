//! Descriptors that the first program of a workload is started with.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};

use enforcer_common::hook::Hook;
use enforcer_vm_tests::actor::{self, Actor, Performer, Place, op, program};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::events::Event;
use enforcer_vm_tests::policy::Policy;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Where the programs find what they are given.
const NUMBER: RawFd = 700;
/// As many descriptors as are looked at.
const MOST: RawFd = 1 << 16;

/// The start of a program with descriptors.
struct Start<'a> {
    place: Place<'a>,
    /// What it gets, and as which number.
    held: Vec<(RawFd, RawFd)>,
    /// `O_CLOEXEC`, or nothing.
    flags: i32,
    /// In a mount namespace of its own, made after the files were opened.
    private: bool,
}

impl Start<'_> {
    fn status(self) -> io::Result<ExitStatus> {
        let mut command = actor::command(self.place, program());
        command.arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (held, flags, private) = (self.held, self.flags, self.private);
        let prepare = move || {
            let limit = libc::rlimit { rlim_cur: 1 << 18, rlim_max: 1 << 18 };
            // SAFETY: the kernel reads a limit.
            check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
            for (from, to) in &held {
                // SAFETY: takes no pointers, and nobody uses that number.
                check(unsafe { libc::dup3(*from, *to, flags) })?;
            }
            if private {
                // SAFETY: takes no pointers.
                check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
            }
            Ok(())
        };
        // SAFETY: the closure only calls functions that are async-signal-safe.
        unsafe { command.pre_exec(prepare) };
        command.status()
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a system call just opened.
fn fresh(descriptor: RawFd) -> OwnedFd {
    check(descriptor).unwrap();
    // SAFETY: nobody else knows the number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Whether a program that joins the cgroup starts with this open.
fn starts(cgroup: &Cgroup, held: &impl AsRawFd) -> bool {
    starts_as(Start {
        place: Place::Joining(cgroup),
        held: vec![(held.as_raw_fd(), NUMBER)],
        flags: 0,
        private: false,
    })
}

fn starts_as(start: Start<'_>) -> bool {
    match start.status() {
        Ok(status) => status.success(),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => false,
        Err(error) => panic!("starting the actor: {error}"),
    }
}

fn secret(name: &str) -> (String, File) {
    let path = format!("{SCRATCH}/{name}");
    fs::create_dir_all(SCRATCH).unwrap();
    fs::write(&path, "secret").unwrap();
    let file = File::open(&path).unwrap();
    (path, file)
}

/// There is exactly this refusal.
fn assert_refused(events: &[Event], reason: &str, path: &str) {
    assert_eq!(events.len(), 1, "{events:#?}");
    let event = &events[0];
    assert_eq!(event.text("hook"), Hook::BprmCredsFromFile.name(), "{event}");
    assert_eq!((event.text("reason"), event.text("verdict")), (reason, "denied"), "{event}");
    assert_eq!(event.object("path"), path, "{event}");
}

#[test]
fn a_launcher_hands_over_nothing_that_is_not_listed() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("handed-over");
    let (path, file) = secret("handed-over");
    let launched = || Start {
        place: Place::Launched(&cgroup),
        held: vec![(file.as_raw_fd(), NUMBER)],
        flags: 0,
        private: false,
    };
    assert!(starts_as(launched()), "without a policy");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("handed-over", &cgroup);
    enforcer.apply(&[&policy]);
    let mark = enforcer.mark();
    assert!(!starts_as(launched()));
    assert_refused(&enforcer.events_since(mark), "no-rule", &path);
    enforcer.apply(&[&policy.allow("file.read", &path)]);
    let mark = enforcer.mark();
    assert!(starts_as(launched()));
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "{events:#?}");
}

#[test]
fn what_closes_on_exec_and_what_holds_nothing_is_not_judged() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("harmless");
    let (_, file) = secret("harmless");
    let (pipe, _other) = nix::unistd::pipe().unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    // SAFETY: takes no pointers.
    let event = fresh(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) });
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: takes no pointers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) };
    let pidfd = fresh(i32::try_from(pidfd).unwrap());
    let harmless =
        [pipe.as_raw_fd(), null.as_raw_fd(), event.as_raw_fd(), socket.as_raw_fd(), pidfd.as_raw_fd()];
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("harmless", &cgroup)]);
    let mark = enforcer.mark();
    let place = Place::Joining(&cgroup);
    let closing = vec![(file.as_raw_fd(), NUMBER)];
    assert!(starts_as(Start { place, held: closing, flags: libc::O_CLOEXEC, private: false }));
    let held = (NUMBER..).zip(harmless).map(|(number, descriptor)| (descriptor, number)).collect();
    assert!(starts_as(Start { place, held, flags: 0, private: false }));
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "{events:#?}");
    assert!(!starts(&cgroup, &file), "what stays open is judged");
}

#[test]
fn memory_files_count_as_files_without_a_name() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("inherited-memfd");
    let memory = memfd_create(c"handed", MFdFlags::MFD_CLOEXEC).unwrap();
    assert!(starts(&cgroup, &memory), "without a policy");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("inherited-memfd", &cgroup);
    enforcer.apply(&[&policy]);
    let mark = enforcer.mark();
    assert!(!starts(&cgroup, &memory));
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0].text("reason"), "unlinked", "{}", events[0]);
    enforcer.apply(&[&policy.allow("file.unlinked", "true")]);
    assert!(starts(&cgroup, &memory));
}

/// A service manager opens files before it gives the service a mount namespace.
#[test]
fn files_of_the_host_have_the_names_that_the_host_gives_them() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("own-mounts");
    let (path, file) = secret("own-mounts");
    let private = || Start {
        place: Place::Joining(&cgroup),
        held: vec![(file.as_raw_fd(), NUMBER)],
        flags: 0,
        private: true,
    };
    assert!(starts_as(private()), "without a policy");
    if baseline_only() {
        return;
    }
    let policy = Policy::of("own-mounts", &cgroup);
    enforcer.apply(&[&policy]);
    let mark = enforcer.mark();
    assert!(!starts_as(private()));
    assert_refused(&enforcer.events_since(mark), "no-rule", &path);
    enforcer.apply(&[&policy.allow("file.read", &path)]);
    assert!(starts_as(private()));
}

#[test]
fn only_the_first_program_is_judged_by_what_it_holds() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let cgroup = Cgroup::create("second-program");
    let (path, file) = secret("second-program");
    let policy = Policy::of("second-program", &cgroup);
    enforcer.apply(&[&policy.clone().allow("file.read", &path)]);
    let performer = Performer {
        place: Place::Joining(&cgroup),
        program: &program(),
        uid: None,
        inherited: vec![(file.into(), NUMBER)],
    };
    let mut first = Actor::start_performer(performer).unwrap();
    enforcer.apply(&[&policy]);
    let mark = enforcer.mark();
    let report = first.perform(&op(&["exec", &program(), "true"]));
    assert!(report.ok, "{report:?}");
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "{events:#?}");
}

#[test]
fn more_descriptors_than_are_looked_at_are_too_many() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("descriptors");
    let null = File::open("/dev/null").unwrap();
    let (path, file) = secret("descriptors");
    let at = |descriptor: &File, number: RawFd| Start {
        place: Place::Joining(&cgroup),
        held: vec![(descriptor.as_raw_fd(), number)],
        flags: 0,
        private: false,
    };
    assert!(starts_as(at(&null, MOST)), "without a policy");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("descriptors", &cgroup)]);
    assert!(starts_as(at(&null, MOST - 1)));
    let mark = enforcer.mark();
    assert!(!starts_as(at(&file, MOST - 1)), "the last one is looked at");
    assert_refused(&enforcer.events_since(mark), "no-rule", &path);
    let mark = enforcer.mark();
    assert!(!starts_as(at(&null, MOST)));
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(
        (events[0].text("reason"), events[0].text("fault")),
        ("internal", "descriptors"),
        "{}",
        events[0]
    );
}
