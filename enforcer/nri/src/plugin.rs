//! The conversation with a runtime.
//!
//! When a container is about to be made, the daemon is asked whether it could be admitted; when its cgroup is there and its
//! program about to start, the daemon is asked to bind it. A refusal, or no answer, is the runtime's to act on: it does not
//! make the container, or does not start it. When a conversation begins, the containers that run already are reconciled in
//! a thread of its own, because the runtime waits for nothing else meanwhile.
//!
//! Runtimes drop a plugin that does not answer in time, and go on without it. So the daemon gets less time than the plugin
//! has, and what it does not say in that time is a refusal.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read, Write},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use enforcer_containers::{
    cgroup::{self, CgroupError},
    container,
    wire::{self, AskError, Bind, Reply, Request},
};
use prost::Message;

use crate::{
    cgroups_path,
    images::{self, ImageError, Images},
    protocol::{
        Call, Configure, Configured, Container, ContainerCall, Pod, RUNTIME, RegisterPlugin, StateChange,
        Status, Synchronize, Synchronized, event, state,
    },
    trunk::{Arrival, Trunk, TrunkError},
};

/// How the runtime knows this plugin.
const NAME: &str = "enforcer";

/// Its place among the plugins. Early: what is refused need not be looked at by the others.
const INDEX: &str = "05";

/// How long runtimes wait for an answer unless they are configured otherwise.
pub const USUAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one container may take when nobody waits for it.
const RECONCILE_PATIENCE: Duration = Duration::from_secs(30);

/// A conversation that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The wire.
    #[error(transparent)]
    Trunk(#[from] TrunkError),
    /// The runtime wants no plugin like this.
    #[error("the runtime does not take this plugin: {0}")]
    Unwanted(String),
}

/// Why a container must not start.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Daemon(String),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the daemon answered another question; is it of another version?")]
    Answer,
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("process {pid} is in the cgroup {cgroup:?}, which is not named after the container")]
    Stranger { pid: u32, cgroup: String },
    #[error("the runtime names no process of the container; only containers that are processes can be bound")]
    NoProcess,
    #[error("the time for an answer was over before the daemon could be asked")]
    TooLate,
}

/// Where everybody else is.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The daemon's control socket.
    pub control: PathBuf,
    /// The runtime's socket for CRI.
    pub cri: PathBuf,
    /// Where procfs is mounted.
    pub proc: PathBuf,
}

/// One conversation.
#[derive(Debug)]
struct Plugin<'a> {
    surroundings: &'a Surroundings,
    /// How long an answer may take.
    patience: Duration,
    /// What has been said of what there is, until all of it has.
    known: Synchronize,
    /// The runtime, once it has said who it is.
    runtime: Option<String>,
}

/// Talks to a runtime until it hangs up. It waits for an answer as long as it says, or `timeout` if it does not. `connected` is called with the runtime's name and version once it has taken the
/// plugin in.
///
/// # Errors
/// [`ServeError`].
pub fn serve(
    socket: impl Read + Write,
    surroundings: &Surroundings,
    timeout: Duration,
    mut connected: impl FnMut(&str),
) -> Result<(), ServeError> {
    let mut trunk = Trunk::new(socket);
    let register = RegisterPlugin { name: NAME.into(), index: INDEX.into() };
    trunk.call(&Call {
        service: RUNTIME.into(),
        method: "RegisterPlugin".into(),
        payload: register.encode_to_vec(),
    })?;
    let mut plugin =
        Plugin { surroundings, patience: share(timeout), known: Synchronize::default(), runtime: None };
    while let Some(arrival) = trunk.receive()? {
        match arrival {
            Arrival::Answered(answer) => match answer.status {
                Some(status) if status.code != 0 => return Err(ServeError::Unwanted(status.message)),
                _ => {}
            },
            Arrival::Called { stream, call } => {
                let outcome = plugin.answer(&call);
                trunk.answer(stream, outcome)?;
                if call.method == "Synchronize" && !plugin.known.more {
                    plugin.reconcile();
                    connected(plugin.runtime.as_deref().unwrap_or_default());
                }
            }
        }
    }
    Ok(())
}

/// The part of the time that the runtime gives which may be spent on finding out.
fn share(timeout: Duration) -> Duration {
    timeout.mul_f32(0.75)
}

impl Plugin<'_> {
    fn answer(&mut self, call: &Call) -> Result<Vec<u8>, Status> {
        match call.method.as_str() {
            "Configure" => self.configure(&parsed(call)?),
            "Synchronize" => Ok(self.synchronize(parsed(call)?)),
            "CreateContainer" => {
                let ContainerCall { pod, container } = parsed(call)?;
                self.refusable("make", pod, container, Self::check)
            }
            // What newer runtimes call first, and what older ones do.
            "StartContainer" => {
                let ContainerCall { pod, container } = parsed(call)?;
                self.refusable("start", pod, container, Self::bind)
            }
            "StateChange" => {
                let StateChange { event, pod, container } = parsed(call)?;
                if event != event::START_CONTAINER {
                    return Ok(Vec::new());
                }
                self.refusable("start", pod, container, Self::bind)
            }
            "Shutdown" => Ok(Vec::new()),
            other => Err(Status { code: Status::UNIMPLEMENTED, message: format!("no method {other}") }),
        }
    }

    fn configure(&mut self, configure: &Configure) -> Result<Vec<u8>, Status> {
        if let Ok(timeout @ 1..) = u64::try_from(configure.request_timeout) {
            self.patience = share(Duration::from_millis(timeout));
        }
        self.runtime = Some(format!("{} {}", configure.runtime, configure.version));
        let events = event::bit(event::CREATE_CONTAINER) | event::bit(event::START_CONTAINER);
        Ok(Configured { events }.encode_to_vec())
    }

    fn synchronize(&mut self, part: Synchronize) -> Vec<u8> {
        self.known.pods.extend(part.pods);
        self.known.containers.extend(part.containers);
        self.known.more = part.more;
        Synchronized { more: part.more }.encode_to_vec()
    }

    /// A call whose failure keeps a container from being made or started.
    fn refusable(
        &self,
        what: &str,
        pod: Option<Pod>,
        container: Option<Container>,
        ask: fn(&Self, &Pod, &Container, Instant) -> Result<(), Refusal>,
    ) -> Result<Vec<u8>, Status> {
        let (pod, container) = (pod.unwrap_or_default(), container.unwrap_or_default());
        ask(self, &pod, &container, Instant::now() + self.patience).map_err(|refusal| {
            tracing::warn!(
                container = container.id,
                name = container.name,
                namespace = pod.namespace,
                "refused to {what} it: {refusal}"
            );
            let message = format!("enforcer: the container must not {what}: {refusal}");
            Status { code: Status::PERMISSION_DENIED, message }
        })?;
        Ok(Vec::new())
    }

    fn check(&self, pod: &Pod, container: &Container, deadline: Instant) -> Result<(), Refusal> {
        let notation = container.linux.as_ref().map_or("", |linux| linux.cgroups_path.as_str());
        // The image is known to CRI once the container is there; until then it is not looked at.
        let described = describe(pod, container, stated_images(container));
        let bind = Bind { cgroup: cgroups_path::resolved(notation), container: described };
        match self.ask(&Request::Check(bind), deadline)? {
            Reply::Admissible => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn bind(&self, pod: &Pod, container: &Container, deadline: Instant) -> Result<(), Refusal> {
        let bind = self.bound(pod, container, deadline)?;
        match self.ask(&Request::Bind(bind), deadline)? {
            Reply::Bound { .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn ask(&self, request: &Request, deadline: Instant) -> Result<Reply, Refusal> {
        Ok(wire::ask(&self.surroundings.control, request, left(deadline)?)?)
    }

    /// What there is to be known about a container that is there.
    fn bound(&self, pod: &Pod, container: &Container, deadline: Instant) -> Result<Bind, Refusal> {
        let cgroup = own_cgroup(self.surroundings, container)?;
        let mut images = stated_images(container);
        if images.is_empty() {
            images = Images::at(&self.surroundings.cri).of_container(&container.id, left(deadline)?)?;
        }
        Ok(Bind { cgroup, container: describe(pod, container, images) })
    }

    /// Has what runs bound, if it is not, in a thread of its own.
    fn reconcile(&mut self) {
        let known = std::mem::take(&mut self.known);
        let surroundings = self.surroundings.clone();
        let work = move || {
            let plugin = Plugin {
                surroundings: &surroundings,
                patience: RECONCILE_PATIENCE,
                known: Synchronize::default(),
                runtime: None,
            };
            plugin.reconcile_all(&known);
        };
        if let Err(error) = thread::Builder::new().name("reconcile".into()).spawn(work) {
            tracing::error!(%error, "the containers that run already are not looked at");
        }
    }

    fn reconcile_all(&self, known: &Synchronize) {
        let pods: HashMap<&str, &Pod> = known.pods.iter().map(|pod| (pod.id.as_str(), pod)).collect();
        let unknown = Pod::default();
        let runs = |container: &&Container| {
            container.pid != 0 && matches!(container.state, state::RUNNING | state::PAUSED)
        };
        for container in known.containers.iter().filter(runs) {
            let pod = pods.get(container.pod.as_str()).copied().unwrap_or(&unknown);
            let deadline = Instant::now() + self.patience;
            let bound = self.bound(pod, container, deadline).and_then(|bind| {
                match self.ask(&Request::Reconcile(bind), deadline)? {
                    Reply::Bound { policy } => Ok(policy),
                    other => Err(unexpected(other)),
                }
            });
            match bound {
                Ok(policy) => tracing::info!(container = container.id, policy, "runs under its policy"),
                Err(refusal) => tracing::error!(
                    container = container.id,
                    name = container.name,
                    namespace = pod.namespace,
                    "UNBOUND: it runs under no policy of its own: {refusal}"
                ),
            }
        }
    }
}

fn parsed<M: Message + Default>(call: &Call) -> Result<M, Status> {
    M::decode(&*call.payload).map_err(|error| {
        let message = format!("enforcer: the argument of {} makes no sense: {error}", call.method);
        Status { code: Status::INVALID_ARGUMENT, message }
    })
}

fn unexpected(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused { message } => Refusal::Daemon(message),
        Reply::Bound { .. } | Reply::Admissible => Refusal::Answer,
    }
}

fn left(deadline: Instant) -> Result<Duration, Refusal> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Refusal::TooLate) } else { Ok(left) }
}

/// The cgroup that the container's first process is in, as far as it is the container's alone.
fn own_cgroup(surroundings: &Surroundings, container: &Container) -> Result<String, Refusal> {
    if container.pid == 0 {
        return Err(Refusal::NoProcess);
    }
    let cgroup = cgroup::of_process(&surroundings.proc, container.pid)?;
    // Runtimes name it after the container. A process that is elsewhere is another that has got the number since.
    match cgroup::outermost(&cgroup, &container.id) {
        Some(own) => Ok(own.to_owned()),
        None => Err(Refusal::Stranger { pid: container.pid, cgroup }),
    }
}

/// Digests of the image that NRI itself says.
fn stated_images(container: &Container) -> Vec<String> {
    let image = container.image.as_ref();
    let stated = image.into_iter().flat_map(|image| [&image.digest, &image.config_digest]);
    stated.filter_map(|name| images::digest(name).map(ToOwned::to_owned)).collect()
}

fn describe(pod: &Pod, container: &Container, images: Vec<String>) -> container::Container {
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    container::Container {
        id: container.id.clone(),
        namespace: said(&pod.namespace),
        // Neither NRI nor CRI says it.
        service_account: None,
        images,
        container: said(&container.name),
        name: None,
        labels: BTreeMap::from_iter(pod.labels.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::net::{UnixListener, UnixStream},
        sync::mpsc,
    };

    use super::*;
    use crate::{
        grpc::tests::service,
        images::tests::{runtime, sha},
        protocol::{Answer, Image, Linux},
        trunk::Arrival,
    };

    const PATIENCE: Duration = Duration::from_secs(20);
    const ID: &str = "1f2e3d";
    const CGROUP: &str = "/kubepods/pod1/1f2e3d";

    /// A daemon that gives these replies, one a question, and then hangs up on whoever asks.
    struct Daemon {
        _directory: tempfile::TempDir,
        socket: PathBuf,
        asked: mpsc::Receiver<Request>,
    }

    impl Daemon {
        fn replying(replies: Vec<Reply>) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("control.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let (sender, asked) = mpsc::channel();
            thread::spawn(move || {
                for reply in replies {
                    let (mut stream, _) = listener.accept().unwrap();
                    let deadline = Instant::now() + PATIENCE;
                    let question = wire::receive_line(&mut stream, deadline).unwrap();
                    sender.send(serde_json::from_str(&question).unwrap()).unwrap();
                    wire::send_line(&mut stream, &serde_json::to_string(&reply).unwrap(), deadline).unwrap();
                }
            });
            Self { _directory: directory, socket, asked }
        }
    }

    /// A runtime at the far end of the wire, speaking as the other side does.
    struct Runtime {
        far: UnixStream,
    }

    impl Runtime {
        /// Calls a method, and returns what it is answered with.
        fn call(&mut self, method: &str, argument: &impl Message) -> Answer {
            let call =
                Call { service: "Plugin".into(), method: method.into(), payload: argument.encode_to_vec() };
            let body = call.encode_to_vec();
            let length = u32::try_from(body.len()).unwrap();
            let mut bytes = Vec::new();
            for number in [1, length + 10, length, 7] {
                bytes.extend(u32::to_be_bytes(number));
            }
            bytes.extend([1, 0]);
            bytes.extend(body);
            self.far.write_all(&bytes).unwrap();
            let (connection, stream, kind, body) = self.receive();
            assert_eq!((connection, stream, kind), (1, 7, 2), "an answer to {method}");
            Answer::decode(&*body).unwrap()
        }

        fn receive(&mut self) -> (u32, u32, u8, Vec<u8>) {
            let mut header = [0; 18];
            self.far.read_exact(&mut header).unwrap();
            let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
            let mut body = vec![0; usize::try_from(number(8)).unwrap()];
            assert_eq!(number(4), number(8) + 10);
            self.far.read_exact(&mut body).unwrap();
            (number(0), number(12), header[16], body)
        }
    }

    /// A conversation, registered and configured, with a procfs of its own in which process 7 is the container's.
    fn conversation(
        daemon: &Daemon,
        cri: PathBuf,
        timeout: Duration,
        talk: impl FnOnce(&mut Runtime, &mpsc::Receiver<String>),
    ) {
        let proc = tempfile::tempdir().unwrap();
        for (pid, cgroup) in [("7", CGROUP), ("8", "/system.slice/sshd.service")] {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        }
        let surroundings = Surroundings { control: daemon.socket.clone(), cri, proc: proc.path().to_owned() };
        let (near, far) = UnixStream::pair().unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let (sender, connected) = mpsc::channel();
        thread::scope(|scope| {
            let serving = scope.spawn(|| {
                serve(near, &surroundings, USUAL_TIMEOUT, |runtime| sender.send(runtime.to_owned()).unwrap())
                    .unwrap();
            });
            let mut runtime = Runtime { far };
            let (connection, stream, kind, body) = runtime.receive();
            assert_eq!((connection, stream, kind), (2, 1, 1), "it registers");
            let register = Call::decode(&*body).unwrap();
            assert_eq!((register.service.as_str(), register.method.as_str()), (RUNTIME, "RegisterPlugin"));
            let register = RegisterPlugin::decode(&*register.payload).unwrap();
            assert_eq!((register.name.as_str(), register.index.as_str()), ("enforcer", "05"));
            let configure = Configure {
                runtime: "containerd".into(),
                version: "1.7".into(),
                request_timeout: i64::try_from(timeout.as_millis()).unwrap(),
            };
            let configured = Configured::decode(&*runtime.call("Configure", &configure).payload).unwrap();
            assert_eq!(configured.events, 0b10_1000, "creation and start of containers");
            talk(&mut runtime, &connected);
            drop(runtime);
            serving.join().unwrap();
        });
    }

    fn pod() -> Pod {
        let labels = HashMap::from([("app".to_owned(), "web".to_owned())]);
        Pod { id: "p".into(), namespace: "shop".into(), labels }
    }

    fn container(pid: u32) -> Container {
        Container {
            id: ID.into(),
            pod: "p".into(),
            name: "app".into(),
            state: state::RUNNING,
            linux: Some(Linux { cgroups_path: "shop.slice:cri:1f2e3d".into() }),
            pid,
            image: None,
        }
    }

    fn described(images: Vec<String>) -> container::Container {
        container::Container {
            id: ID.into(),
            namespace: Some("shop".into()),
            images,
            container: Some("app".into()),
            labels: BTreeMap::from([("app".into(), "web".into())]),
            ..container::Container::default()
        }
    }

    fn call_about(pid: u32) -> ContainerCall {
        ContainerCall { pod: Some(pod()), container: Some(container(pid)) }
    }

    fn start(pid: u32) -> StateChange {
        StateChange { event: event::START_CONTAINER, pod: Some(pod()), container: Some(container(pid)) }
    }

    fn nowhere() -> PathBuf {
        "/nowhere/cri.sock".into()
    }

    fn refused(answer: Answer, with: &str) {
        let status = answer.status.unwrap();
        assert_eq!(status.code, Status::PERMISSION_DENIED);
        assert!(status.message.contains(with), "{}", status.message);
    }

    #[test]
    fn a_container_is_checked_when_it_is_made_and_bound_when_it_starts() {
        let (_service, cri) = service(runtime(&sha('a'), &sha('a'), &[&format!("web@{}", sha('b'))]));
        let bound = || Reply::Bound { policy: "web".into() };
        let daemon = Daemon::replying(vec![Reply::Admissible, bound(), bound()]);
        conversation(&daemon, cri.socket().to_owned(), PATIENCE, |runtime, _| {
            assert_eq!(runtime.call("CreateContainer", &call_about(0)), Answer::default());
            assert_eq!(runtime.call("StateChange", &start(7)), Answer::default());
            assert_eq!(runtime.call("StartContainer", &call_about(7)), Answer::default());
        });
        let check = Bind { cgroup: "/shop.slice/cri-1f2e3d.scope".into(), container: described(Vec::new()) };
        let bind = Bind { cgroup: CGROUP.into(), container: described(vec![sha('a'), sha('b')]) };
        let asked: Vec<Request> = daemon.asked.iter().collect();
        assert_eq!(asked, [Request::Check(check), Request::Bind(bind.clone()), Request::Bind(bind)]);
    }

    #[test]
    fn refusals_are_the_runtime_s() {
        let refusal = |message: &str| Reply::Refused { message: message.into() };
        let daemon = Daemon::replying(vec![refusal("nobody knows it"), refusal("not this one")]);
        let mut call = start(7);
        let image = Image { digest: sha('c'), config_digest: String::new() };
        call.container.as_mut().unwrap().image = Some(image);
        conversation(&daemon, nowhere(), PATIENCE, |runtime, _| {
            refused(runtime.call("CreateContainer", &call_about(0)), "nobody knows it");
            // A runtime that says the image itself is not asked.
            refused(runtime.call("StateChange", &call), "not this one");
        });
        let last = daemon.asked.iter().last().unwrap();
        let bind = Bind { cgroup: CGROUP.into(), container: described(vec![sha('c')]) };
        assert_eq!(last, Request::Bind(bind));
    }

    #[test]
    fn what_cannot_be_found_out_is_a_refusal() {
        let (_service, cri) = service(runtime(&sha('a'), &sha('a'), &[]));
        let daemon = Daemon::replying(vec![Reply::Bound { policy: "web".into() }, Reply::Admissible]);
        conversation(&daemon, cri.socket().to_owned(), PATIENCE, |runtime, _| {
            refused(runtime.call("StateChange", &start(0)), "names no process");
            refused(runtime.call("StateChange", &start(8)), "not named after the container");
            refused(runtime.call("StateChange", &start(9)), "cannot read");
            let nothing = StateChange { event: event::START_CONTAINER, pod: None, container: None };
            refused(runtime.call("StateChange", &nothing), "names no process");
            // Answers to other questions.
            refused(runtime.call("CreateContainer", &call_about(0)), "another question");
            refused(runtime.call("StateChange", &start(7)), "another question");
        });
        let daemon = Daemon::replying(vec![]);
        conversation(&daemon, nowhere(), PATIENCE, |runtime, _| {
            refused(runtime.call("StateChange", &start(7)), "does not say which image");
            fs::remove_file(&daemon.socket).unwrap();
            refused(runtime.call("CreateContainer", &call_about(0)), "cannot reach the daemon");
        });
    }

    #[test]
    fn a_daemon_that_hangs_is_a_refusal_before_the_runtime_gives_up() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let _hung = UnixListener::bind(&socket).unwrap();
        let daemon = Daemon { _directory: directory, socket, asked: mpsc::channel().1 };
        let timeout = Duration::from_millis(800);
        conversation(&daemon, nowhere(), timeout, |runtime, _| {
            let started = Instant::now();
            refused(runtime.call("CreateContainer", &call_about(0)), "did not answer");
            assert!(started.elapsed() >= share(timeout), "it was given its time");
        });
    }

    #[test]
    fn what_runs_is_reconciled() {
        let (_service, cri) = service(runtime(&sha('a'), &sha('a'), &[]));
        let daemon = Daemon::replying(vec![Reply::Bound { policy: "web".into() }]);
        let ended = Container { state: 4, ..container(7) };
        let made = Container { pid: 0, state: 1, ..container(7) };
        conversation(&daemon, cri.socket().to_owned(), PATIENCE, |runtime, connected| {
            let first = Synchronize { pods: vec![pod()], containers: vec![ended, made], more: true };
            let answer = Synchronized::decode(&*runtime.call("Synchronize", &first).payload).unwrap();
            assert!(answer.more);
            let last = Synchronize { pods: vec![], containers: vec![container(7)], more: false };
            let answer = Synchronized::decode(&*runtime.call("Synchronize", &last).payload).unwrap();
            assert!(!answer.more);
            assert_eq!(connected.recv_timeout(PATIENCE).unwrap(), "containerd 1.7");
            let bind = Bind { cgroup: CGROUP.into(), container: described(vec![sha('a')]) };
            assert_eq!(daemon.asked.recv_timeout(PATIENCE).unwrap(), Request::Reconcile(bind));
        });
        assert!(daemon.asked.recv().is_err(), "nothing else was asked about");
    }

    #[test]
    fn methods_that_are_not_there_are_said_to_be_missing() {
        let daemon = Daemon::replying(vec![]);
        conversation(&daemon, nowhere(), PATIENCE, |runtime, _| {
            let answer = runtime.call("UpdatePodSandbox", &Status::default());
            assert_eq!(answer.status.unwrap().code, Status::UNIMPLEMENTED);
            let garbage = Status { code: 0, message: "x".into() };
            let answer = runtime.call("CreateContainer", &garbage);
            assert_eq!(answer.status.unwrap().code, Status::INVALID_ARGUMENT);
            let other = StateChange { event: 11, pod: None, container: None };
            assert_eq!(runtime.call("StateChange", &other), Answer::default());
        });
    }

    #[test]
    fn a_runtime_that_wants_no_plugin_says_why() {
        let (near, far) = UnixStream::pair().unwrap();
        let status = Status { code: 3, message: "invalid index".into() };
        let body = Answer { status: Some(status), payload: Vec::new() }.encode_to_vec();
        let length = u32::try_from(body.len()).unwrap();
        let mut bytes = Vec::new();
        for number in [2, length + 10, length, 1] {
            bytes.extend(u32::to_be_bytes(number));
        }
        bytes.extend([2, 0]);
        bytes.extend(body);
        (&far).write_all(&bytes).unwrap();
        let surroundings = Surroundings { control: nowhere(), cri: nowhere(), proc: nowhere() };
        let error = serve(near, &surroundings, USUAL_TIMEOUT, |_| panic!("it was not taken in")).unwrap_err();
        assert!(matches!(&error, ServeError::Unwanted(said) if said == "invalid index"), "{error}");
        let mut trunk = Trunk::new(far);
        assert!(!matches!(trunk.receive(), Ok(Some(Arrival::Answered(_)))));
    }
}
