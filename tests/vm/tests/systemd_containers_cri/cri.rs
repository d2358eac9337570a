//! The part of CRI that a kubelet needs to run pods, and containers as tests see them.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use enforcer_nri::grpc::{Channel, GrpcError};
use enforcer_vm_tests::enforcer::SCRATCH;
use enforcer_vm_tests::report::Report;
use enforcer_vm_tests::wait;
use prost::Message;

/// Where containerd listens.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// How long a call may take on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a container may take to come up or end.
const A_WHILE: Duration = Duration::from_secs(60);

/// Namespaces of the node, and of the container itself.
const NODE: i32 = 2;
const CONTAINER: i32 = 1;

const EXITED: i32 = 2;

fn ask<A: Message + Default>(service: &str, method: &str, question: &impl Message) -> Result<A, GrpcError> {
    let method = format!("runtime.v1.{service}/{method}");
    Channel::at(Path::new(SOCKET)).ask(&method, question, PATIENCE)
}

fn ask_runtime<A: Message + Default>(method: &str, question: &impl Message) -> Result<A, GrpcError> {
    ask("RuntimeService", method, question)
}

/// Whether containerd answers and is ready.
pub(crate) fn is_ready() -> bool {
    ask_runtime::<Version>("Version", &Empty {}).is_ok()
}

/// The id of an image: the digest of its configuration.
pub(crate) fn image_id(name: &str) -> Option<String> {
    let question = ImageStatusRequest { image: Some(ImageSpec { image: name.into() }) };
    let answer: ImageStatusResponse = ask("ImageService", "ImageStatus", &question).ok()?;
    Some(answer.image?.id)
}

/// A pod, gone with its containers when this is dropped.
pub(crate) struct Pod {
    id: String,
    config: PodConfig,
}

impl Pod {
    /// Runs a pod that holds no containers yet.
    pub(crate) fn run(namespace: &str, name: &str) -> Self {
        let uid = format!("uid-{name}");
        let namespaces = Namespaces { network: NODE, pid: CONTAINER, ipc: NODE };
        let config = PodConfig {
            metadata: Some(PodMetadata {
                name: name.into(),
                uid: uid.clone(),
                namespace: namespace.into(),
                attempt: 0,
            }),
            log_directory: format!("{SCRATCH}/logs/{name}"),
            dns: Some(Dns { servers: vec!["127.0.0.1".into()] }),
            labels: HashMap::from([("app".into(), name.into())]),
            linux: Some(PodLinux {
                cgroup_parent: if super::node::cgroups_are_systemd_s() {
                    format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"))
                } else {
                    format!("/kubepods/burstable/pod{uid}")
                },
                security: Some(Security { namespaces: Some(namespaces) }),
            }),
        };
        let _ = fs::remove_dir_all(&config.log_directory);
        fs::create_dir_all(&config.log_directory).unwrap();
        let question = RunPod { config: Some(config.clone()) };
        let answer: PodId = ask_runtime("RunPodSandbox", &question).unwrap_or_else(|error| {
            panic!("no pod: {error}\n{}", enforcer_vm_tests::units::state(super::node::CONTAINERD))
        });
        Self { id: answer.id, config }
    }

    /// Has a container made.
    pub(crate) fn create(&self, name: &str, command: &[&str]) -> Result<Container, GrpcError> {
        let log = format!("{name}.log");
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: super::image::ACTORS.into() }),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            log_path: log.clone(),
            linux: Some(Empty {}),
        };
        let question = CreateContainer {
            pod: self.id.clone(),
            config: Some(config),
            pod_config: Some(self.config.clone()),
        };
        let answer: ContainerId = ask_runtime("CreateContainer", &question)?;
        let log = PathBuf::from(&self.config.log_directory).join(log);
        Ok(Container { id: answer.id, log })
    }

    /// Has a container made and started, both of which must go well.
    pub(crate) fn start(&self, name: &str, command: &[&str]) -> Container {
        let container = self.create(name, command).unwrap_or_else(|error| panic!("{name}: {error}"));
        container.start().unwrap_or_else(|error| panic!("{name}: {error}"));
        container
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let id = PodId { id: self.id.clone() };
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let gone: Result<Empty, GrpcError> = ask_runtime(method, &id);
            if let Err(error) = gone {
                println!("{method}: {error}");
            }
        }
    }
}

/// A container that was made.
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: String,
    log: PathBuf,
}

impl Container {
    /// Starts it.
    pub(crate) fn start(&self) -> Result<(), GrpcError> {
        ask_runtime::<Empty>("StartContainer", &ContainerId { id: self.id.clone() }).map(drop)
    }

    /// Runs a program in it to its end, as probes and `kubectl exec` do.
    pub(crate) fn exec(&self, command: &[&str]) -> Result<Executed, GrpcError> {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        ask_runtime("ExecSync", &Exec { container: self.id.clone(), command, timeout: 60 })
    }

    /// Runs the actor in it, which must start, and returns what it reports.
    pub(crate) fn exec_actor(&self, op: &[&str]) -> Report {
        let executed = self.exec(&[&[super::image::ACTOR], op].concat()).unwrap();
        serde_json::from_slice(&executed.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&executed.stdout)))
    }

    /// Waits for its end; returns the exit status of its program.
    pub(crate) fn ended(&self) -> i32 {
        wait::until("the container's end", A_WHILE, || {
            let question = ContainerId { id: self.id.clone() };
            let answer: ContainerStatusResponse = ask_runtime("ContainerStatus", &question).unwrap();
            let status = answer.status.unwrap();
            (status.state == EXITED).then_some(status.exit_code)
        })
    }

    /// Removes it, once it has ended.
    pub(crate) fn remove(self) {
        ask_runtime::<Empty>("RemoveContainer", &ContainerId { id: self.id }).unwrap();
    }

    /// What its program printed.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let printed = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        printed.filter_map(|text| serde_json::from_str(text).ok()).collect()
    }
}

/// Talks the server at that port into something.
pub(crate) fn talk_into(port: u16, op: &[&str]) -> Report {
    let stream =
        wait::until("a server in the container", A_WHILE, || TcpStream::connect(("127.0.0.1", port)).ok());
    stream.set_read_timeout(Some(A_WHILE)).unwrap();
    writeln!(&stream, "{}", serde_json::to_string(op).unwrap()).unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{op:?}: {error}: {line:?}"))
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct Version {
    #[prost(string, tag = "3")]
    runtime_version: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(message, optional, tag = "4")]
    dns: Option<Dns>,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<PodLinux>,
}

#[derive(Clone, PartialEq, Message)]
struct Dns {
    #[prost(string, repeated, tag = "1")]
    servers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct PodLinux {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<Security>,
}

#[derive(Clone, PartialEq, Message)]
struct Security {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(int32, tag = "3")]
    ipc: i32,
}

#[derive(Clone, PartialEq, Message)]
struct RunPod {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct PodId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(string, tag = "11")]
    log_path: String,
    #[prost(message, optional, tag = "15")]
    linux: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod_config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatus {
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int32, tag = "7")]
    exit_code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Exec {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

/// What came of a program that was run in a container.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Executed {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) exit_code: i32,
}
