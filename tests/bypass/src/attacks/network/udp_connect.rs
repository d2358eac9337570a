//! A connected datagram socket.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "udp-connect",
    told: "call home over UDP, connected",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.reaching(&["{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketConnect,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["{udp6}"], "udp {udp6}", "{udp6}").refused(
            Hook::SocketConnect,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["{udp4-mapped}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketConnect,
            Family::Network,
            Reason::NoRule,
        ),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, 0, to)?;
    sockets::connect(&socket, &address).at("connect")?;
    sockets::send(&socket)
}
