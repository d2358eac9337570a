//! Asking for something unknown makes the kernel start `modprobe`: as root, outside the workload.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use crate::calls::{mounts, sockets};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "request-module",
    told: "make the kernel start modprobe for me",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let ask = |how: &str, errno: i32| {
        ATTACK
            .row(&[how])
            .prepared(calls::modules::watch)
            .allowed_by("privileges.allow", "kernel-module")
            .refused(Hook::KernelModuleRequest, Family::Privilege, Reason::Privilege)
            .about("kernel-module")
            .errno(errno)
    };
    vec![
        ask("socket-family", libc::EAFNOSUPPORT).given("network.families", "rose"),
        ask("file-system", libc::ENODEV).given("privileges.allow", "mount"),
        ask("congestion-control", libc::ENOENT).given("network.families", "inet"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    let (attempt, module) = match how {
        "socket-family" => (
            sockets::socket(libc::AF_ROSE, libc::SOCK_SEQPACKET, 0).at("socket").map(calls::nothing),
            "net-pf-11",
        ),
        "file-system" => (mounts::fsopen("nosuchfs").map(calls::nothing), "fs-nosuchfs"),
        _ => (choose_congestion_control(c"nosuch"), "tcp_nosuch"),
    };
    calls::modules::was_asked_for(module, &attempt)
}

fn choose_congestion_control(name: &CStr) -> Outcome {
    let socket = sockets::socket(libc::AF_INET, libc::SOCK_STREAM, 0).at("socket")?;
    let length = libc::socklen_t::try_from(name.count_bytes()).unwrap_or(0);
    // SAFETY: the name is as long as said.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            length,
        )
    };
    calls::check(set).at("setsockopt").map(calls::nothing)
}
