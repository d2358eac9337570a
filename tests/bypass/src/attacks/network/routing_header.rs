//! A routing header sends a packet somewhere else first, and takes no capability.

use crate::calls::sockets;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "routing-header",
    told: "send a datagram over IPv6 where I may, by way of somewhere else",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let routed = |how: &str, hook: Hook| {
        // What a kernel knows of routing headers depends on its configuration.
        super::source_route::row(&ATTACK, how, "[::1]:7136", hook).optional()
    };
    vec![
        routed("option", Hook::SocketSetsockopt),
        routed("packet-options", Hook::SocketSetsockopt),
        routed("control", Hook::SocketSendmsg),
        // See second-datagram.
        routed("second", Hook::SocketSendmsg),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, 0, to)?;
    // Next header, length in words of eight after the first, kind, segments left, and what the kind needs.
    let segments = [&[0, 2, 4, 0, 0, 0, 0, 0][..], &LOOPBACK].concat();
    let home_address = [&[0, 2, 2, 1, 0, 0, 0, 0][..], &LOOPBACK].concat();
    let level = libc::IPPROTO_IPV6;
    match how {
        "option" => sockets::set_option(&socket, level, libc::IPV6_RTHDR, &segments).at("IPV6_RTHDR")?,
        // Nothing at all takes the options away.
        "packet-options" => {
            sockets::set_option(&socket, level, IPV6_2292PKTOPTIONS, &[]).at("IPV6_2292PKTOPTIONS")?;
        }
        "second" => {
            let control = sockets::control(level, libc::IPV6_RTHDR, &home_address);
            return sockets::send_two(&socket, &address, &control);
        }
        _ => {
            return sockets::send_with_control(&socket, &address, level, libc::IPV6_RTHDR, &home_address);
        }
    }
    sockets::send_to(&socket, &address, 0)
}

const IPV6_2292PKTOPTIONS: i32 = 6;
const LOOPBACK: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
