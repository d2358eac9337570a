//! So can an address.

use std::os::fd::AsRawFd;

use crate::calls::race::Unsteady;
use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "change-address",
    told: "change the address in memory while the kernel connects",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["127.0.0.9:{tcp4-port}", "{tcp4}"])
            .given("network.families", "inet")
            .given("network.connect", "tcp 127.0.0.9:{tcp4-port}")
            .allowed_by("network.connect", "tcp {tcp4}")
            .refused(Hook::SocketConnect, Family::Network, Reason::NoRule)
            .about("{tcp4}")
            .repeatedly(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [listed, other] = arguments(words)?;
    let (listed, other) = (sockets::bytes(&sockets::parse(listed)?), sockets::bytes(&sockets::parse(other)?));
    let address = Unsteady::between(&listed, &other)
        .ok_or_else(|| failure("addresses that differ in one byte", libc::EINVAL))?;
    let length = libc::socklen_t::try_from(listed.len()).unwrap_or(0);
    calls::race::against(
        || address.flip(),
        || {
            let socket = sockets::socket(libc::AF_INET, libc::SOCK_STREAM, 0).at("socket")?;
            // Nobody listens at the listed address, so a connection is one to the other.
            // SAFETY: whatever the other thread does, the address is as long as said.
            let connected = unsafe { libc::connect(socket.as_raw_fd(), address.address().cast(), length) };
            calls::check(connected).at("connect")?;
            sockets::send(&socket)
        },
    )
}
