//! Suite `systemd_containers_cri`: Debian's containerd with runc, driven through CRI as a kubelet does, with the NRI plugin.
//!
//! Pods are on the host's network: what there is no CNI for is not what this is about. Images are made of the guest's own
//! files and imported; nothing is pulled from anywhere.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

#[path = "systemd_containers_cri/admission.rs"]
mod admission;
#[path = "systemd_containers_cri/churn.rs"]
mod churn;
#[path = "systemd_containers_cri/cri.rs"]
mod cri;
#[path = "systemd_containers_cri/image.rs"]
mod image;
#[path = "systemd_containers_cri/node.rs"]
mod node;
#[path = "systemd_containers_cri/outages.rs"]
mod outages;
#[path = "systemd_containers_cri/trace.rs"]
mod trace;
