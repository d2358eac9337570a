//! Whoever listens can be called.

use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "back-door",
    told: "open a door to be called through",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let bind = |how: &str, at: &str| {
        ATTACK
            .row(&[how, at])
            .given("network.families", "inet")
            .given("network.families", "inet6")
            .allowed_by("network.bind", &format!("{how} {at}"))
            .refused(Hook::SocketBind, Family::Network, Reason::NoRule)
            .about(at)
    };
    vec![
        bind("tcp", "127.0.0.1:4444"),
        bind("tcp", "0.0.0.0:4445"),
        bind("tcp", "[::1]:4446"),
        bind("udp", "127.0.0.1:4447"),
        ATTACK
            .row(&["unbound", ""])
            .given("network.families", "inet")
            .allowed_by("network.bind", "tcp 0.0.0.0:0")
            .refused(Hook::SocketListen, Family::Network, Reason::NoRule),
        // By io_uring since 6.11.
        ATTACK
            .row(&["io_uring", "127.0.0.1:4448"])
            .given("network.families", "inet")
            .allowed_by("network.bind", "tcp 127.0.0.1:4448")
            .refused(Hook::SocketBind, Family::Network, Reason::NoRule)
            .about("127.0.0.1:4448")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, at] = arguments(words)?;
    if how == "unbound" {
        // `listen` binds by itself to a port of the kernel's choice.
        let socket = sockets::socket(libc::AF_INET, libc::SOCK_STREAM, 0).at("socket")?;
        return listen(&socket, Backlog::MAXCONN).at("listen").map(calls::nothing);
    }
    if how == "io_uring" {
        let (socket, address) = sockets::towards(libc::SOCK_STREAM, 0, at)?;
        let ring = calls::uring::ring("plain")?;
        ring.bind(&socket, &address).at("bind by io_uring")?;
        return ring.listen(&socket).at("listen by io_uring").map(calls::nothing);
    }
    let kind = if how == "tcp" { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    let (socket, address) = sockets::towards(kind, 0, at)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true).at("setsockopt")?;
    sockets::bind(&socket, &address).at("bind")?;
    if how == "tcp" {
        listen(&socket, Backlog::MAXCONN).at("listen").map(calls::nothing)
    } else {
        Ok(String::new())
    }
}
