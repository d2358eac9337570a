//! The control socket: who may ask, and the conversation.
//!
//! Runtimes wait for the answer before a container starts, so each conversation has a thread and a time limit, and one that
//! hangs keeps nobody else waiting. Asking is for root on the host: the socket is in a directory of root's, and the task at
//! the other end must not be under any policy.

use std::{
    fs, io,
    os::{
        fd::AsFd as _,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use enforcer_containers::wire::{self, Bind, Reply, Request};

use super::admit::{Admitted, Asked, Standing, is_labelled};
use crate::{
    cgroups,
    events::container::ContainerRecord,
    file,
    kernel::{
        maps::{Labels, MapFault, OpenError},
        pin::Pins,
    },
    session::{Lock, Session, SessionError},
    sys,
};

/// How long a question may take to arrive, and an answer to leave. Whoever asks has it ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// Conversations at a time. More are turned away, and their containers do not start.
const CONVERSATIONS: usize = 64;

/// Why somebody is not answered.
#[derive(Debug, thiserror::Error)]
enum AskerError {
    #[error("it cannot be told who asks: {0}")]
    Unknown(#[source] io::Error),
    #[error("only root may ask, not user {0}")]
    User(u32),
    #[error("process {0} has no cgroup of version 2")]
    NoCgroup(u32),
    #[error("process {0} has ended")]
    Gone(u32),
    #[error("a task that is under a policy must not ask for one")]
    Labelled,
    #[error(transparent)]
    Maps(#[from] OpenError),
    #[error(transparent)]
    Map(#[from] MapFault),
}

/// A socket that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {}: {source}", path.display())]
pub struct ListenError {
    path: PathBuf,
    source: io::Error,
}

/// The near end, which outlives no daemon: the file goes with it.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

/// What the conversations need.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Where locks and state live, and the socket.
    pub runtime: PathBuf,
    /// Where BPF objects are pinned.
    pub pins: Pins,
}

impl Control {
    /// Listens, and answers in threads of its own. `report` gets what is worth an event.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn start(
        desk: Desk,
        report: impl Fn(ContainerRecord) + Clone + Send + 'static,
    ) -> Result<Self, ListenError> {
        let path = desk.runtime.join("control.sock");
        let failed = |source| ListenError { path: path.clone(), source };
        // Left by a daemon that was killed. No other runs: this one holds the daemon's lock.
        file::remove(&path).map_err(failed)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let serve = move || {
            let busy = Arc::new(AtomicUsize::new(0));
            for stream in listener.incoming() {
                match stream {
                    Ok(stream) => begin(stream, &desk, &busy, report.clone()),
                    Err(error) => tracing::error!(%error, "somebody who asked was lost"),
                }
            }
        };
        std::thread::Builder::new().name("control".into()).spawn(serve).map_err(failed)?;
        Ok(Self { path })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Counts a conversation as long as it lasts.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn begin(
    stream: UnixStream,
    desk: &Desk,
    busy: &Arc<AtomicUsize>,
    report: impl Fn(ContainerRecord) + Send + 'static,
) {
    let taken = busy.fetch_add(1, Ordering::AcqRel);
    let seat = Seat(Arc::clone(busy));
    if taken >= CONVERSATIONS {
        tracing::error!(conversations = taken, "too many ask at a time; one is turned away");
        return;
    }
    let desk = desk.clone();
    let talk = move || {
        let _seat = seat;
        if let Err(error) = converse(stream, &desk, &report) {
            tracing::warn!(%error, "a conversation broke off");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("conversation".into()).spawn(talk) {
        tracing::error!(%error, "nobody can be answered");
    }
}

fn converse(mut stream: UnixStream, desk: &Desk, report: &impl Fn(ContainerRecord)) -> io::Result<()> {
    let asker = asker(&stream, &desk.pins);
    // Read in any case: whoever finds nobody at the other end when they ask does not look for an answer.
    let question = wire::receive_line(&mut stream, Instant::now() + PATIENCE)?;
    let reply = match asker {
        Ok(cgroup) => match serde_json::from_str(&question) {
            Ok(Request::Bind(bind)) => answer(desk, &bind, &cgroup, Standing::Waiting, report),
            Ok(Request::Reconcile(bind)) => answer(desk, &bind, &cgroup, Standing::Running, report),
            Ok(Request::Check(bind)) => check(desk, &bind, report),
            Err(error) => refused(format!("the question makes no sense: {error}")),
        },
        Err(error) => {
            tracing::warn!(%error, "somebody asks who must not");
            refused(error.to_string())
        }
    };
    let line = serde_json::to_string(&reply)?;
    wire::send_line(&mut stream, &line, Instant::now() + PATIENCE)
}

fn refused(message: String) -> Reply {
    Reply::Refused { message }
}

fn session(desk: &Desk) -> Result<Session, SessionError> {
    Session::open(Lock::acquire(&desk.runtime)?, &desk.runtime, &desk.pins)
}

fn answer(
    desk: &Desk,
    bind: &Bind,
    asker: &[u8],
    standing: Standing,
    report: &impl Fn(ContainerRecord),
) -> Reply {
    let started = Instant::now();
    let bound = session(desk).and_then(|mut session| session.admit(Asked { bind, asker, standing }));
    match bound {
        Ok(Admitted { policy, is_new }) => {
            // Whoever reconciles asks about every container that runs, again and again.
            if is_new || standing == Standing::Waiting {
                report(ContainerRecord::asked(bind, Ok(&policy)));
                tracing::info!(container = %bind.container, cgroup = bind.cgroup, policy, took = ?started.elapsed(), "bound");
            }
            Reply::Bound { policy }
        }
        Err(error) if standing == Standing::Running => {
            let message = error.to_string();
            report(ContainerRecord::running(bind, &message));
            tracing::warn!(container = %bind.container, cgroup = bind.cgroup, message, "UNBOUND: this container runs under the base policy");
            refused(message)
        }
        Err(error) => turn_down(bind, &error, report),
    }
}

fn check(desk: &Desk, bind: &Bind, report: &impl Fn(ContainerRecord)) -> Reply {
    match session(desk).and_then(|session| session.check(bind)) {
        Ok(()) => Reply::Admissible,
        Err(error) => turn_down(bind, &error, report),
    }
}

fn turn_down(bind: &Bind, error: &SessionError, report: &impl Fn(ContainerRecord)) -> Reply {
    let message = error.to_string();
    report(ContainerRecord::asked(bind, Err(&message)));
    tracing::warn!(container = %bind.container, cgroup = bind.cgroup, message, "refused");
    refused(message)
}

/// The cgroup of whoever is at the other end, if they may ask.
fn asker(stream: &UnixStream, pins: &Pins) -> Result<Vec<u8>, AskerError> {
    let peer = sys::peer(stream.as_fd()).map_err(AskerError::Unknown)?;
    if peer.user != 0 {
        return Err(AskerError::User(peer.user));
    }
    let labels = Labels::open(&pins.maps())?;
    // Connecting has given the task a label if its cgroup is bound.
    let label = labels.of(peer.process.as_fd())?;
    let cgroup = cgroups::of_process(peer.pid).ok_or(AskerError::NoCgroup(peer.pid))?;
    // A process that is gone has no label, and its number may be another's by now.
    if sys::has_ended(peer.process.as_fd()).map_err(AskerError::Unknown)? {
        return Err(AskerError::Gone(peer.pid));
    }
    if label.is_some_and(|label| is_labelled(label.state)) {
        return Err(AskerError::Labelled);
    }
    Ok(cgroup)
}
