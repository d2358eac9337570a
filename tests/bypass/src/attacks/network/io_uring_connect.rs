//! `io_uring` connects like the system call does.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "io-uring-connect",
    told: "call home through io_uring",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.reaching(&["plain", "{tcp4}"], "tcp {tcp4}", "{tcp4}").refused(
            Hook::SocketConnect,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["async", "{tcp4}"], "tcp {tcp4}", "{tcp4}").refused(
            Hook::SocketConnect,
            Family::Network,
            Reason::NoRule,
        ),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_STREAM, 0, to)?;
    let ring = calls::uring::ring(how)?;
    ring.connect(&socket, &address).at("connect by io_uring")?;
    ring.send(&socket, sockets::PAYLOAD).at("send by io_uring").map(calls::nothing)
}
