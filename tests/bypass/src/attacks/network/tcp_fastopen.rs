//! The first send opens the connection: `connect` is never called.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "tcp-fastopen",
    told: "call home without connecting",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.reaching(&["{tcp4}"], "tcp {tcp4}", "{tcp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["{tcp6}"], "tcp {tcp6}", "{tcp6}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_STREAM, 0, to)?;
    sockets::send_to(&socket, &address, libc::MSG_FASTOPEN)
}
