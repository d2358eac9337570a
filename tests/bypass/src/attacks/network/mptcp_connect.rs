//! MPTCP is TCP with another protocol number.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "mptcp-connect",
    told: "call home over MPTCP",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .reaching(&["{tcp4}"], "tcp {tcp4}", "{tcp4}")
            .given("network.families", "mptcp")
            .refused(Hook::SocketConnect, Family::Network, Reason::NoRule)
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_STREAM, libc::IPPROTO_MPTCP, to)?;
    sockets::connect(&socket, &address).at("connect")?;
    sockets::send(&socket)
}
