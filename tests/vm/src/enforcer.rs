//! The enforcer under test, driven from outside through its command line, like an operator would.
//!
//! One installation serves all tests of a process: loading the programs takes an emulated CPU many seconds, and what is
//! shared that way is what production shares, too. Tests take turns ([`Enforcer::ready`] locks) and each replaces the
//! whole set of policies. At exit the installation is removed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use enforcer::bundle::{
    anchors::Consent,
    sources::{self, Sources},
    verify::InsecureUnsigned,
};
use enforcer::kernel::pin::Pins;
use enforcer::session::{Lock, RUNTIME_DIR, Session};
use serde_json::Value;

use crate::actor::{self, Place, installed, op};
use crate::cgroup::Cgroup;
use crate::events::{Event, EventLog, Mark};
use crate::policy::Policy;
use crate::units::{self, UnitFile};
use crate::wait;

/// Files of the tests. A tmpfs in every guest.
pub const SCRATCH: &str = "/tmp/vm-tests";

/// How long loading may take. Verifying the programs is work for an emulated CPU.
const LOAD_LIMIT: Duration = Duration::from_secs(400);

/// How soon after a denial its event must be in the log.
pub const EVENT_LIMIT: Duration = Duration::from_secs(1);

/// Room enough for the tests, and little enough to fill up and to dump quickly.
pub const SIZES: &[&str] =
    &["--max-exact=65536", "--max-prefixes=2048", "--max-ports=4096", "--event-ring=1048576"];

static SHARED: Mutex<Shared> = Mutex::new(Shared {
    daemon: None,
    sentinel: None,
    sentinels: 0,
    broken: None,
    current: Vec::new(),
    sizes: SIZES,
});

struct Shared {
    daemon: Option<Daemon>,
    sentinel: Option<Cgroup>,
    sentinels: u64,
    /// Why the daemon did not start. Trying again for every test would only cost time.
    broken: Option<String>,
    /// The files last applied: what a daemon that is started anew shall find in force.
    current: Vec<PathBuf>,
    /// What the daemon is told about the sizes of its maps.
    sizes: &'static [&'static str],
}

/// Under systemd the daemon is a unit, like in production; elsewhere it is a child of ours.
enum Daemon {
    Child(Child),
    Unit { _file: UnitFile },
}

/// The daemon's unit.
const UNIT: &str = "enforcer-under-test.service";

fn under_systemd() -> bool {
    std::env::var_os("ENFORCER_VM_TIER").is_some_and(|tier| tier == "systemd")
}

/// Whether only the halves without enforcement are to run, as `ENFORCER_VM_BASELINE=1` asks: it shows that the kernel
/// and the actor can do every operation, so that a refusal later means something.
#[must_use]
pub fn baseline_only() -> bool {
    std::env::var_os("ENFORCER_VM_BASELINE").is_some_and(|value| value == "1")
}

/// Whether the daemon is started so that it remembers no allows (`ENFORCER_VM_NO_CACHE=1`).
#[must_use]
pub fn decides_each_time() -> bool {
    std::env::var_os("ENFORCER_VM_NO_CACHE").is_some()
}

/// The number that a variable asks for; else `usual` on 6.12, and `elsewhere` on the other kernels: an emulated processor
/// has its limits.
///
/// # Panics
/// When it asks for something else than a number.
#[must_use]
pub fn asked(variable: &str, usual: usize, elsewhere: usize) -> usize {
    let asked = std::env::var(variable).ok().map(|text| text.parse().expect("a number"));
    let kernel = std::env::var("ENFORCER_VM_KERNEL").unwrap_or_default();
    asked.unwrap_or(if kernel.starts_with("6.12.") { usual } else { elsewhere })
}

/// A turn with the enforcer. While one exists, no other test has one.
pub struct Enforcer {
    shared: MutexGuard<'static, Shared>,
}

impl Enforcer {
    /// Waits for its turn and makes sure that the daemon runs.
    ///
    /// # Panics
    /// When the daemon does not get ready.
    #[must_use]
    pub fn ready() -> Self {
        Self::ready_with(SIZES)
    }

    /// As [`Enforcer::ready`]; a daemon that is started for it gets these options instead of [`SIZES`].
    ///
    /// # Panics
    /// When the daemon does not get ready.
    #[must_use]
    pub fn ready_with(sizes: &'static [&'static str]) -> Self {
        let mut enforcer = Self { shared: SHARED.lock().unwrap_or_else(PoisonError::into_inner) };
        enforcer.shared.sizes = sizes;
        fs::create_dir_all(policies()).expect("creating the scratch directory");
        if !baseline_only() {
            enforcer.start_daemon();
            // What the test before left unread must not be taken for ours.
            enforcer.barrier();
        }
        enforcer
    }

    /// Starts the daemon unless it runs.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start_daemon(&mut self) {
        if self.shared.daemon.as_mut().is_some_and(Daemon::is_running) {
            return;
        }
        if self.shared.sentinel.is_none() {
            self.shared.sentinel = Some(Cgroup::create("sentinel"));
            // SAFETY: `clean_up` takes no arguments, unwinds nowhere and may run in any thread.
            let registered = unsafe { libc::atexit(clean_up) };
            assert_eq!(registered, 0, "registering the clean-up");
        }
        let policies: Vec<_> =
            std::iter::once(self.sentinel_policy()).chain(self.shared.current.clone()).collect();
        if let Some(reason) = &self.shared.broken {
            panic!("not tried again: {}", reason.lines().next().unwrap_or_default());
        }
        let mut options = self.shared.sizes.to_vec();
        if decides_each_time() {
            options.push("--no-cache");
        }
        match Daemon::start(&policies, &options) {
            Ok(daemon) => self.shared.daemon = Some(daemon),
            Err(reason) => {
                self.shared.broken = Some(reason.clone());
                panic!("{reason}");
            }
        }
    }

    /// Kills the daemon the hard way.
    ///
    /// # Panics
    /// When it was not running.
    pub fn kill_daemon(&mut self) {
        self.shared.daemon.take().expect("the daemon runs").kill();
    }

    /// Process id of the daemon.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        self.shared.daemon.as_ref().and_then(Daemon::pid)
    }

    /// The policy of the cgroup that [`Enforcer::barrier`] uses.
    ///
    /// # Panics
    /// When the disk is full.
    #[must_use]
    pub fn sentinel_policy(&self) -> PathBuf {
        let cgroup = self.shared.sentinel.as_ref().expect("made before the daemon");
        write_policy(&Policy::of("sentinel", cgroup))
    }

    /// Makes these the policies in force, instead of whatever was before.
    ///
    /// # Panics
    /// When the enforcer refuses.
    pub fn apply(&mut self, policies: &[&Policy]) {
        self.apply_files(&policies.iter().map(|policy| write_policy(policy)).collect::<Vec<_>>());
    }

    /// Puts two sets in force in turn, `count` times in all, through the function that `apply` ends in. An emulated
    /// CPU takes seconds to start a process that reads kernel types and policies; this takes only the swap itself.
    ///
    /// # Panics
    /// When a swap is refused.
    pub fn swap_in_process(&mut self, sets: [&[&Policy]; 2], count: usize, mut after: impl FnMut(usize)) {
        let runtime = Path::new(RUNTIME_DIR);
        // One after the other: policies of one name share a file.
        let bundles = sets.map(|set| {
            let files = std::iter::once(self.sentinel_policy());
            let files: Vec<_> = files.chain(set.iter().map(|policy| write_policy(policy))).collect();
            let Sources::Unsigned(sources) = sources::read(&files).expect("reading policies") else {
                panic!("nobody signed these");
            };
            sources::accept_unsigned(sources, InsecureUnsigned::of(true, Consent::Allow))
                .expect("compiling policies")
        });
        assert_ne!(bundles[0][1].digest(), bundles[1][1].digest(), "two policies to swap");
        let lock = Lock::acquire(runtime).expect("the installers' lock");
        let mut session = Session::open(lock, runtime, &Pins::default()).expect("opening the pinned maps");
        let launchers = session.observe().expect("looking at what is in force").unwrap_or_default().launchers;
        for swap in 0..count {
            session
                .put(&bundles[swap % 2], &launchers)
                .unwrap_or_else(|error| panic!("swap {swap}: {error}"));
            after(swap);
        }
        self.shared.current = sets[(count + 1) % 2].iter().map(|policy| write_policy(policy)).collect();
    }

    /// As [`Enforcer::apply`], from files.
    ///
    /// # Panics
    /// When the enforcer refuses.
    pub fn apply_files(&mut self, files: &[PathBuf]) {
        let output = self.try_apply(files);
        assert!(output.status.success(), "apply: {}", shown(&output));
        self.shared.current = files.to_vec();
    }

    /// As [`Enforcer::apply`], from files that may be anything.
    #[must_use]
    pub fn try_apply(&self, files: &[PathBuf]) -> Output {
        let mut command = Command::new(installed("enforcer"));
        command.args(["apply", "--prune", "--insecure-unsigned"]).arg(self.sentinel_policy()).args(files);
        command.stdin(Stdio::null()).output().expect("running enforcer apply")
    }

    /// The event log.
    #[must_use]
    pub fn log(&self) -> EventLog {
        EventLog::at(&log_file())
    }

    /// The place in the log from which a test counts: whatever happened before is in the log by then.
    #[must_use]
    pub fn mark(&mut self) -> Mark {
        self.barrier();
        self.log().mark()
    }

    /// All events since the mark, once everything that happened before this call has been logged.
    ///
    /// Has something refused that nobody else does, and waits for that event: the kernel hands events out in order.
    ///
    /// # Panics
    /// When that event does not come.
    #[must_use]
    pub fn events_since(&mut self, mark: Mark) -> Vec<Event> {
        self.barrier();
        let sentinel = sentinel_directory();
        let own = |event: &Event| event.object("path").starts_with(&*sentinel.to_string_lossy());
        self.log().since(mark).into_iter().filter(|event| !own(event)).collect()
    }

    /// Waits until all that has been refused so far is in the log; returns how long the last event took.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn barrier(&mut self) -> Duration {
        self.shared.sentinels += 1;
        let file = sentinel_directory().join(self.shared.sentinels.to_string());
        fs::create_dir_all(sentinel_directory()).expect("creating the sentinel directory");
        fs::write(&file, "").expect("creating a sentinel file");
        let path = file.to_string_lossy().into_owned();
        let mark = self.log().mark();
        let cgroup = self.shared.sentinel.as_ref().expect("the daemon was started");
        let reports =
            actor::run(Place::Joining(cgroup), &[op(&["open-read", &path])]).expect("starting the sentinel");
        assert!(reports[0].refused(), "the sentinel was not refused: {reports:?}");
        let refused = Instant::now();
        // Behind a flood of events it takes as long as the flood.
        wait::until("the sentinel's event", wait::SOON * 4, || {
            self.log().since(mark).iter().any(|event| event.object("path") == path).then_some(())
        });
        refused.elapsed()
    }

    /// `enforcer status --format json`.
    ///
    /// # Panics
    /// When it fails or prints something else.
    #[must_use]
    pub fn status(&self) -> Value {
        let output = run(&["status", "--format", "json"]);
        assert!(output.status.success(), "status: {}", shown(&output));
        serde_json::from_slice(&output.stdout).expect("status prints JSON")
    }

    /// `enforcer explain`: for each request (`read /path`), whether it is allowed and the line that says why.
    ///
    /// # Panics
    /// When it fails or does not answer every request.
    #[must_use]
    pub fn explain(&self, policy: &Policy, requests: &[String]) -> Vec<(bool, String)> {
        let file = write_policy(policy);
        let batch = policies().join("requests");
        fs::write(&batch, requests.join("\n") + "\n").expect("writing the requests");
        let mut command = Command::new(installed("enforcer"));
        let output = command.args(["explain", "--policy"]).arg(file).arg("--batch").arg(batch).output();
        let output = output.expect("running enforcer explain");
        // The exit status may tell whether anything was denied; the answers count.
        let text = String::from_utf8_lossy(&output.stdout);
        let answers: Vec<_> = text.lines().map(|line| (line.starts_with("allow"), line.to_owned())).collect();
        assert_eq!(answers.len(), requests.len(), "one answer per request; {}", shown(&output));
        answers
    }
}

impl Daemon {
    fn start(policies: &[PathBuf], sizes: &[&str]) -> Result<Self, String> {
        if under_systemd() { Self::start_unit(policies, sizes) } else { Self::start_child(policies, sizes) }
    }

    fn is_running(&mut self) -> bool {
        match self {
            Self::Child(child) => child.try_wait().is_ok_and(|status| status.is_none()),
            Self::Unit { .. } => units::is_active(UNIT),
        }
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Self::Child(child) => Some(child.id()),
            Self::Unit { .. } => units::property(UNIT, "MainPID").parse().ok(),
        }
    }

    fn kill(self) {
        match self {
            Self::Child(mut child) => {
                child.kill().expect("SIGKILL");
                child.wait().expect("waiting for the daemon's end");
            }
            Self::Unit { .. } => {
                let _ = units::systemctl(&["kill", "--signal=KILL", UNIT]);
                wait::until("the daemon's end", wait::SOON, || (!units::is_active(UNIT)).then_some(()));
                let _ = units::systemctl(&["reset-failed", UNIT]);
            }
        }
    }

    fn start_unit(policies: &[PathBuf], sizes: &[&str]) -> Result<Self, String> {
        let policies: Vec<_> = policies.iter().map(|file| file.to_string_lossy()).collect();
        let text = format!(
            "[Unit]\nDescription=Enforcer under test\nDefaultDependencies=no\n[Service]\nType=notify\n\
             TimeoutStartSec={}\nStandardOutput=append:{output}\nStandardError=append:{output}\n\
             ExecStart={} run --insecure-unsigned {} --event-log {} {}\n",
            LOAD_LIMIT.as_secs(),
            installed("enforcer").display(),
            sizes.join(" "),
            log_file().display(),
            policies.join(" "),
            output = daemon_output().display(),
        );
        let unit = UnitFile::unit(UNIT, &text);
        let output = units::systemctl(&["start", UNIT]);
        let said = || fs::read_to_string(daemon_output()).unwrap_or_default();
        if output.status.success() {
            Ok(Self::Unit { _file: unit })
        } else {
            Err(format!("the daemon did not start:\n{}\n{}", units::state(UNIT), said()))
        }
    }

    fn start_child(policies: &[PathBuf], sizes: &[&str]) -> Result<Self, String> {
        let mut command = Command::new(installed("enforcer"));
        command.args(["run", "--insecure-unsigned"]).args(sizes).arg("--event-log").arg(log_file());
        command.arg("--launcher").arg(installed("launcher")).args(policies);
        start_until_ready(&mut command, &daemon_output()).map(Self::Child)
    }
}

/// Starts a daemon and waits until it says that it is ready. What it writes goes to `output`.
///
/// # Errors
/// What it said, when it ended or took too long.
///
/// # Panics
/// When it cannot be started.
pub fn start_until_ready(command: &mut Command, output: &Path) -> Result<Child, String> {
    let socket = Path::new(SCRATCH).join("notify");
    fs::create_dir_all(SCRATCH).expect("creating the scratch directory");
    let _ = fs::remove_file(&socket);
    let notify = UnixDatagram::bind(&socket).expect("binding the notification socket");
    notify.set_read_timeout(Some(Duration::from_millis(100))).expect("setting a timeout");
    let written = File::options().create(true).append(true).open(output).expect("opening the daemon's log");
    let mut child = command
        .env("NOTIFY_SOCKET", &socket)
        .stdin(Stdio::null())
        .stdout(written.try_clone().expect("duplicating the log"))
        .stderr(written)
        .spawn()
        .expect("starting the daemon");
    let said = || fs::read_to_string(output).unwrap_or_default();
    let started = Instant::now();
    loop {
        let mut message = [0; 4096];
        if let Ok(length) = notify.recv(&mut message)
            && String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1")
        {
            read_for_ever(notify);
            return Ok(child);
        }
        if let Some(status) = child.try_wait().expect("looking at the daemon") {
            return Err(format!("the daemon ended with {status}:\n{}", said()));
        }
        if started.elapsed() > LOAD_LIMIT {
            let _ = child.kill();
            return Err(format!("the daemon was not ready within {LOAD_LIMIT:?}:\n{}", said()));
        }
    }
}

/// Goes on taking the daemon's messages, like systemd does: it writes to a full socket only so long.
fn read_for_ever(notify: UnixDatagram) {
    std::thread::spawn(move || {
        let mut message = [0; 4096];
        loop {
            match notify.recv(&mut message) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
    });
}

/// Runs the enforcer's command line.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(installed("enforcer"));
    command.args(arguments).stdin(Stdio::null()).output().expect("running enforcer")
}

/// A command's status and output, for a failure message.
#[must_use]
pub fn shown(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Writes a policy to its file.
///
/// # Panics
/// When the disk is full.
#[must_use]
pub fn write_policy(policy: &Policy) -> PathBuf {
    let file = policies().join(format!("{}.toml", policy.name()));
    fs::create_dir_all(policies()).expect("creating the policy directory");
    fs::write(&file, policy.to_toml()).expect("writing a policy");
    file
}

fn policies() -> PathBuf {
    Path::new(SCRATCH).join("policies")
}

fn sentinel_directory() -> PathBuf {
    Path::new(SCRATCH).join("sentinel")
}

/// Where files go that the harness brings home.
fn artifacts() -> PathBuf {
    let directory =
        std::env::var_os("ENFORCER_VM_ARTIFACTS").map_or_else(|| PathBuf::from(SCRATCH), PathBuf::from);
    let _ = fs::create_dir_all(&directory);
    directory
}

/// Where the daemon logs events.
///
/// Not among the artifacts: a flood of events is part of the tests, and failures print the events that matter.
#[must_use]
pub fn log_file() -> PathBuf {
    Path::new(SCRATCH).join("events.jsonl")
}

fn daemon_output() -> PathBuf {
    artifacts().join("enforcer.log")
}

/// Runs at exit. A panic must not cross into the C library.
extern "C" fn clean_up() {
    let _ = std::panic::catch_unwind(remove_installation);
}

/// Ends the daemon and removes what it installed.
fn remove_installation() {
    let Ok(mut shared) = SHARED.try_lock() else { return };
    if let Some(daemon) = shared.daemon.take() {
        daemon.kill();
    }
    if actor::find("enforcer").is_some() {
        let _ = run(&["unload", "--yes"]);
    }
    let _ = shared.sentinel.take();
}
