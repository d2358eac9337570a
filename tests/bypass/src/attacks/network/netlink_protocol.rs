//! Netlink is many protocols, and one family to the rules.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "netlink-protocol",
    told: "talk to a kernel subsystem over netlink",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        // NETLINK_AUDIT: not what a resolver needs.
        ATTACK
            .row(&["9"])
            .given("network.families", "netlink")
            .allowed_by("network.families", "netlink-audit")
            .refused(Hook::SocketCreate, Family::Network, Reason::SocketFamily),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [protocol] = arguments(words)?;
    sockets::socket(libc::AF_NETLINK, libc::SOCK_RAW, calls::number(protocol)?)
        .at("socket")
        .map(calls::nothing)
}
