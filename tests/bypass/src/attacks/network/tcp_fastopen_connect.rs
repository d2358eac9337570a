//! `connect` only notes the address; the first send opens the connection.

use nix::sys::socket::{setsockopt, sockopt};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "tcp-fastopen-connect",
    told: "call home with a connection that opens late",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![ATTACK.reaching(&["{tcp4}"], "tcp {tcp4}", "{tcp4}").refused(
        Hook::SocketConnect,
        Family::Network,
        Reason::NoRule,
    )]
}

fn run(words: &[&str]) -> Outcome {
    let [to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_STREAM, 0, to)?;
    setsockopt(&socket, sockopt::TcpFastOpenConnect, &true).at("setsockopt")?;
    sockets::connect(&socket, &address).at("connect")?;
    sockets::send(&socket)
}
