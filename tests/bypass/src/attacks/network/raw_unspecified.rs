//! Raw IPv6 sockets send to an address whether or not it says that it is one.

use crate::calls::sockets;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "raw-unspecified",
    told: "send a raw packet to an address of no family",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |to: &str| {
        ATTACK
            .row(&[to])
            .given("network.families", "inet")
            .given("network.families", "inet6")
            .given("network.raw", "true")
            .allowed_by("network.connect", &format!("udp {to}"))
            .about(to)
            .refused(Hook::SocketSendmsg, Family::Network, Reason::NoRule)
    };
    vec![row("127.0.0.1:0"), row("[::1]:0")]
}

fn run(words: &[&str]) -> Outcome {
    let [to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_RAW, libc::IPPROTO_UDP, to)?;
    let mut bytes = sockets::bytes(&address);
    bytes[..2].copy_from_slice(&0_u16.to_ne_bytes());
    // Without a checksum that would let it arrive anywhere.
    sockets::send_bytes(&socket, sockets::PAYLOAD, &bytes, 0)
}
