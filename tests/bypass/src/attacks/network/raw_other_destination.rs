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
    let headers = |how: &str, hook: Hook| {
        ATTACK
            .row(&[how, "127.0.0.9:0", "{udp4-port}"])
            .given("network.families", "inet")
            .given("network.families", "inet6")
            .given("network.raw", "true")
            .given("network.connect", "other 127.0.0.9:0")
            .given("network.connect", "udp 127.0.0.9:0")
            .allowed_by("privileges.allow", "raw-headers")
            .refused(hook, Family::Privilege, Reason::Privilege)
            .about("raw-headers")
    };
    vec![
        headers("protocol", Hook::SocketCreate),
        headers("option", Hook::SocketSetsockopt),
        headers("option-of-ipv6", Hook::SocketSetsockopt),
        headers("option-of-raw", Hook::SocketSetsockopt),
    ]
}

fn run(words: &[&str]) -> Outcome {
    const IPV6_HDRINCL: i32 = 36;
    const SOL_RAW: i32 = 255;
    let [how, listed, port] = arguments(words)?;
    let port: u16 = calls::number(port)?;
    let on = 1_i32.to_ne_bytes();
    let (family, protocol) = match how {
        // With this protocol, headers are the sender's business.
        "protocol" => (libc::AF_INET, libc::IPPROTO_RAW),
        "option" => (libc::AF_INET, libc::IPPROTO_UDP),
        _ => (libc::AF_INET6, libc::IPPROTO_UDP),
    };
    let socket = sockets::socket(family, libc::SOCK_RAW, protocol).at("socket")?;
    let level = match how {
        "option" => {
            sockets::set_option(&socket, libc::IPPROTO_IP, libc::IP_HDRINCL, &on).at("IP_HDRINCL")?;
            None
        }
        "option-of-ipv6" => Some(libc::IPPROTO_IPV6),
        "option-of-raw" => Some(SOL_RAW),
        _ => None,
    };
    if let Some(level) = level {
        return sockets::set_option(&socket, level, IPV6_HDRINCL, &on).at("IPV6_HDRINCL").map(calls::nothing);
    }
    // Version 4, five words, no options; UDP; the kernel fills in lengths, checksum and source.
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0];
    packet.extend([127, 0, 0, 1]);
    let length = u16::try_from(8 + sockets::PAYLOAD.len()).unwrap_or(8);
    // Source port, destination port, length, no checksum.
    packet.extend([1, port, length, 0].iter().flat_map(|half| half.to_be_bytes()));
    packet.extend(sockets::PAYLOAD);
    sockets::send_bytes(&socket, &packet, &sockets::bytes(&sockets::parse(listed)?), 0)
}
