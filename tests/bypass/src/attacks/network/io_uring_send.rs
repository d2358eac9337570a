//! `io_uring` sends like the system calls do.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "io-uring-send",
    told: "send datagrams through io_uring",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.reaching(&["plain", "sendmsg", "{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["async", "sendmsg", "{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["plain", "sendto", "{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        // Zero copy, since 6.0.
        ATTACK.reaching(&["plain", "send-zc", "{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, operation, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, 0, to)?;
    let ring = calls::uring::ring(how)?;
    let sent = match operation {
        "send-zc" => ring.send_zero_copy(&socket, sockets::PAYLOAD, &address),
        "sendto" => ring.send_to(&socket, sockets::PAYLOAD, &address),
        _ => ring.send_message(&socket, sockets::PAYLOAD, &address),
    };
    sent.at("send by io_uring").map(calls::nothing)
}
