//! Datagrams name their destination one by one.

use std::io::IoSlice;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, sendmsg};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "udp-send",
    told: "call home with single datagrams",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.reaching(&["sendto", "{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["sendto", "{udp6}"], "udp {udp6}", "{udp6}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["sendto", "{udp4-mapped}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["sendmsg", "{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        // Without the privilege this is refused whatever the address: see second-datagram.
        ATTACK
            .reaching(&["sendmmsg", "{udp4}"], "udp {udp4}", "{udp4}")
            .given("privileges.allow", "raw-headers")
            .refused(Hook::SocketSendmsg, Family::Network, Reason::NoRule),
        ATTACK.reaching(&["unspecified", "{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
        ATTACK.reaching(&["v4-on-v6", "{udp4}"], "udp {udp4}", "{udp4}").refused(
            Hook::SocketSendmsg,
            Family::Network,
            Reason::NoRule,
        ),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, 0, to)?;
    match how {
        "sendmsg" => {
            let parts = [IoSlice::new(sockets::PAYLOAD)];
            let sent = sendmsg(socket.as_raw_fd(), &parts, &[], MsgFlags::empty(), Some(&address));
            sent.at("sendmsg").map(calls::nothing)
        }
        "sendmmsg" => sockets::send_two(&socket, &address, &[]),
        // IPv4 takes no family for its own.
        "unspecified" => {
            let mut bytes = sockets::bytes(&address);
            bytes[..2].copy_from_slice(&0_u16.to_ne_bytes());
            sockets::send_bytes(&socket, sockets::PAYLOAD, &bytes, 0)
        }
        "v4-on-v6" => {
            let socket = sockets::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0).at("socket")?;
            sockets::send_to(&socket, &address, 0)
        }
        _ => sockets::send_to(&socket, &address, 0),
    }
}
