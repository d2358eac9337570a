//! `AF_UNSPEC` takes a socket's peer away, and then it can have another.

use std::net::{TcpListener, UdpSocket};
use std::sync::Once;

use crate::calls::sockets;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "reconnect",
    told: "connect where I may, disconnect, and connect somewhere else",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

/// Servers that the workload may connect to.
const LISTED: &str = "127.0.0.1:7137";

fn rows() -> Vec<Case> {
    let row = |how: &str, rule: &str, to: &str| {
        ATTACK
            .reaching(&[how, LISTED, to], &format!("{rule} {to}"), to)
            .given("network.connect", &format!("{rule} {LISTED}"))
            .prepared(serve)
            .refused(Hook::SocketConnect, Family::Network, Reason::NoRule)
    };
    vec![row("datagrams", "udp", "{decoy4}"), row("stream", "tcp", "{tcp4}")]
}

static SERVERS: Once = Once::new();

fn serve(_: &Path) {
    SERVERS.call_once(|| {
        let listener = TcpListener::bind(LISTED).expect("binding a TCP server");
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let socket = UdpSocket::bind(LISTED).expect("binding a UDP server");
        std::thread::spawn(move || while socket.recv(&mut [0; 64]).is_ok() {});
    });
}

fn run(words: &[&str]) -> Outcome {
    let [how, listed, to] = arguments(words)?;
    let kind = if how == "datagrams" { libc::SOCK_DGRAM } else { libc::SOCK_STREAM };
    let (socket, listed) = sockets::towards(kind, 0, listed)?;
    sockets::connect(&socket, &listed).at("connect where it is listed")?;
    if how == "datagrams" {
        // So the policy has said yes to a send over this socket.
        sockets::send(&socket)?;
    }
    sockets::disconnect(&socket).at("disconnect")?;
    sockets::connect(&socket, &sockets::parse(to)?).at("connect elsewhere")?;
    sockets::send(&socket)
}
