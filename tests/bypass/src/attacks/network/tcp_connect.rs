//! The plain case, over both families and the one inside the other.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "tcp-connect",
    told: "call home over TCP",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.reaching(&["{tcp4}"], "tcp {tcp4}", "{tcp4}").refused(
            Hook::SocketConnect,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["{tcp6}"], "tcp {tcp6}", "{tcp6}").refused(
            Hook::SocketConnect,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["{tcp4-mapped}"], "tcp {tcp4}", "{tcp4}").refused(
            Hook::SocketConnect,
            Family::Network,
            Reason::NoRule,
        ),
        // The rule names the right host, but another protocol or port.
        ATTACK
            .reaching(&["{tcp4}"], "tcp {tcp4}", "{tcp4}")
            .refused(Hook::SocketConnect, Family::Network, Reason::NoRule)
            .given("network.connect", "udp {tcp4}"),
        ATTACK
            .reaching(&["{tcp6}"], "tcp {tcp6}", "{tcp6}")
            .refused(Hook::SocketConnect, Family::Network, Reason::NoRule)
            .given("network.connect", "tcp [::1]:1-1023"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_STREAM, 0, to)?;
    sockets::connect(&socket, &address).at("connect")?;
    sockets::send(&socket)
}
