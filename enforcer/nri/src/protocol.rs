//! Messages of NRI (`nri.pkg.api.v1alpha1`) and of ttrpc, as far as they are needed: fields that nobody here reads are left
//! out, and skipped when they arrive.

use std::collections::HashMap;

/// The service of the runtime that a plugin calls.
pub const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";

/// A call, inside a frame of ttrpc.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Call {
    /// The service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The argument.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

/// What came of a call.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// There if it failed.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The result.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// Why a call failed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// One of gRPC's codes.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Status {
    /// The argument makes no sense.
    pub const INVALID_ARGUMENT: i32 = 3;
    /// The container must not be made, or not start.
    pub const PERMISSION_DENIED: i32 = 7;
    /// There is no such method. Runtimes fall back to an older one, then.
    pub const UNIMPLEMENTED: i32 = 12;
}

/// A plugin says who it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterPlugin {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its place among the plugins: two digits.
    #[prost(string, tag = "2")]
    pub index: String,
}

/// A runtime says who it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Configure {
    /// Its name.
    #[prost(string, tag = "2")]
    pub runtime: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub version: String,
    /// How long an answer may take, in milliseconds. Older runtimes do not say.
    #[prost(int64, tag = "5")]
    pub request_timeout: i64,
}

/// What a plugin wants to be asked about.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Configured {
    /// One bit for each [`event`].
    #[prost(int32, tag = "2")]
    pub events: i32,
}

/// Events, by number.
pub mod event {
    /// A container is about to be made.
    pub const CREATE_CONTAINER: i32 = 4;
    /// A container is there, and its program is about to start.
    pub const START_CONTAINER: i32 = 6;

    /// The bit of an event in a set of them.
    #[must_use]
    pub const fn bit(event: i32) -> i32 {
        1 << (event - 1)
    }
}

/// What there is already, in one message or several.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Synchronize {
    /// Pods.
    #[prost(message, repeated, tag = "1")]
    pub pods: Vec<Pod>,
    /// Containers.
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<Container>,
    /// Another message follows.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// The answer to [`Synchronize`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Synchronized {
    /// As in the question.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// A container and its pod: the argument of `CreateContainer` and, since NRI 0.12, of `StartContainer`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerCall {
    /// The pod.
    #[prost(message, optional, tag = "1")]
    pub pod: Option<Pod>,
    /// The container.
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
}

/// The same with an event, for all that has no method of its own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StateChange {
    /// Which.
    #[prost(int32, tag = "1")]
    pub event: i32,
    /// The pod.
    #[prost(message, optional, tag = "2")]
    pub pod: Option<Pod>,
    /// The container.
    #[prost(message, optional, tag = "3")]
    pub container: Option<Container>,
}

/// A pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pod {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its namespace.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// Its labels.
    #[prost(map = "string, string", tag = "5")]
    pub labels: HashMap<String, String>,
}

/// A container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Container {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The id of its pod.
    #[prost(string, tag = "2")]
    pub pod: String,
    /// Its name in the pod.
    #[prost(string, tag = "3")]
    pub name: String,
    /// One of [`state`].
    #[prost(int32, tag = "4")]
    pub state: i32,
    /// What only Linux has.
    #[prost(message, optional, tag = "11")]
    pub linux: Option<Linux>,
    /// Its first process; none yet if it is zero.
    #[prost(uint32, tag = "12")]
    pub pid: u32,
    /// Its image, since NRI 0.13.
    #[prost(message, optional, tag = "22")]
    pub image: Option<Image>,
}

/// States of containers.
pub mod state {
    /// It stands still.
    pub const PAUSED: i32 = 2;
    /// It runs.
    pub const RUNNING: i32 = 3;
}

/// What only Linux has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Linux {
    /// Where the cgroup is, or is going to be.
    #[prost(string, tag = "5")]
    pub cgroups_path: String,
}

/// An image.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Image {
    /// The digest of its manifest.
    #[prost(string, tag = "2")]
    pub digest: String,
    /// The digest of its configuration.
    #[prost(string, tag = "3")]
    pub config_digest: String,
}
