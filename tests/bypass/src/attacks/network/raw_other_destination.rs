//! Who writes the IP header by hand writes another destination there than the one that is judged.

use crate::calls::sockets;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "raw-other-destination",
    told: "send a packet where I may, with another address in its header",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["127.0.0.9:0", "{udp4-port}"])
            .given("network.families", "inet")
            .given("network.raw", "true")
            .given("network.connect", "other 127.0.0.9:*")
            .allowed_by("network.connect", "udp {udp4}")
            .refused(Hook::SocketSendmsg, Family::Network, Reason::NoRule)
            .about("{udp4}"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [listed, port] = arguments(words)?;
    let port: u16 = calls::number(port)?;
    // With this protocol, headers are the sender's business.
    let socket = sockets::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW).at("socket")?;
    // Version 4, five words, no options; UDP; the kernel fills in lengths, checksum and source.
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0];
    packet.extend([127, 0, 0, 1]);
    let length = u16::try_from(8 + sockets::PAYLOAD.len()).unwrap_or(8);
    // Source port, destination port, length, no checksum.
    packet.extend([1, port, length, 0].iter().flat_map(|half| half.to_be_bytes()));
    packet.extend(sockets::PAYLOAD);
    sockets::send_bytes(&socket, &packet, &sockets::bytes(&sockets::parse(listed)?), 0)
}
