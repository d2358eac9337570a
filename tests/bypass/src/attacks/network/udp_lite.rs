//! UDP-Lite is UDP with another protocol number.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "udp-lite",
    told: "call home over UDP-Lite",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .reaching(&["connect", "{udp4}"], "udp {udp4}", "{udp4}")
            .refused(Hook::SocketConnect, Family::Network, Reason::NoRule)
            .optional(),
        ATTACK
            .reaching(&["sendto", "{udp4}"], "udp {udp4}", "{udp4}")
            .refused(Hook::SocketSendmsg, Family::Network, Reason::NoRule)
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE, to)?;
    if how == "connect" {
        sockets::connect(&socket, &address).at("connect")?;
        sockets::send(&socket)
    } else {
        sockets::send_to(&socket, &address, 0)
    }
}
