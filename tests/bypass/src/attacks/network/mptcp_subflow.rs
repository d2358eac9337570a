//! The kernel adds connections to an MPTCP socket by itself, to addresses that the peer announces.

use crate::calls::sockets;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "mptcp-subflow",
    told: "have the kernel connect to where my peer says",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let socket = |family: &str| {
        ATTACK
            .row(&[family])
            .given("network.families", family)
            .allowed_by("network.families", "mptcp")
            .refused(Hook::SocketCreate, Family::Network, Reason::SocketFamily)
            .about("mptcp")
    };
    vec![socket("inet").optional(), socket("inet6").optional()]
}

fn run(words: &[&str]) -> Outcome {
    let [family] = arguments(words)?;
    let family = if family == "inet" { libc::AF_INET } else { libc::AF_INET6 };
    sockets::socket(family, libc::SOCK_STREAM, libc::IPPROTO_MPTCP).at("socket").map(calls::nothing)
}
