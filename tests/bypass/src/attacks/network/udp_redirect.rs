//! A connected socket can still send elsewhere.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "udp-redirect",
    told: "connect where I may, and send somewhere else",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .reaching(&["{udp4}", "{decoy4}"], "udp {decoy4}", "{decoy4}")
            .refused(Hook::SocketSendmsg, Family::Network, Reason::NoRule)
            .given("network.connect", "udp {udp4}"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [connected, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, 0, connected)?;
    sockets::connect(&socket, &address).at("connect")?;
    sockets::send_to(&socket, &sockets::parse(to)?, 0)
}
