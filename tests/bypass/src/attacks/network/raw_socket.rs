//! Raw sockets write their own headers.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "raw-socket",
    told: "write packets by hand",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let raw = |family: &str, given: &str| {
        ATTACK.row(&[family]).given("network.families", given).allowed_by("network.raw", "true").refused(
            Hook::SocketCreate,
            Family::Network,
            Reason::SocketFamily,
        )
    };
    vec![raw("inet", "inet"), raw("inet6", "inet6"), raw("sock-packet", "packet").optional()]
}

fn run(words: &[&str]) -> Outcome {
    let [family] = arguments(words)?;
    let socket = match family {
        "inet" => sockets::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        "inet6" => sockets::socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
        // The kernel turns this into a packet socket.
        _ => sockets::socket(libc::AF_INET, SOCK_PACKET, 0),
    };
    socket.at("socket").map(calls::nothing)
}

const SOCK_PACKET: i32 = 10;
