//! Families that have no rules of their own are allowed or refused whole.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "socket-family",
    told: "open a socket of an unusual family",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let family = |family: &str, kind: &str| {
        ATTACK
            .row(&[family, kind, "0"])
            .allowed_by("network.families", family)
            .refused(Hook::SocketCreate, Family::Network, Reason::SocketFamily)
            .optional()
    };
    vec![
        family("netlink", "raw"),
        family("alg", "seqpacket"),
        family("packet", "dgram"),
        family("vsock", "stream"),
        family("xdp", "raw"),
        family("key", "raw"),
        family("kcm", "dgram"),
        family("rds", "seqpacket"),
        family("tipc", "stream"),
        family("smc", "stream"),
        family("inet", "stream"),
        family("inet6", "dgram"),
        // The kernel asks no differently through io_uring.
        ATTACK.row(&["netlink", "raw", "io_uring"]).allowed_by("network.families", "netlink").refused(
            Hook::SocketCreate,
            Family::Network,
            Reason::SocketFamily,
        ),
    ]
}

/// Not in `libc`.
const AF_KCM: i32 = 41;
/// Not in `libc`.
const AF_SMC: i32 = 43;

fn run(words: &[&str]) -> Outcome {
    let [family, kind, how] = arguments(words)?;
    let family = match family {
        "netlink" => libc::AF_NETLINK,
        "alg" => libc::AF_ALG,
        "packet" => libc::AF_PACKET,
        "vsock" => libc::AF_VSOCK,
        "xdp" => libc::AF_XDP,
        "key" => libc::AF_KEY,
        "kcm" => AF_KCM,
        "rds" => libc::AF_RDS,
        "tipc" => libc::AF_TIPC,
        "smc" => AF_SMC,
        "inet" => libc::AF_INET,
        _ => libc::AF_INET6,
    };
    let kind = match kind {
        "raw" => libc::SOCK_RAW,
        "seqpacket" => libc::SOCK_SEQPACKET,
        "dgram" => libc::SOCK_DGRAM,
        _ => libc::SOCK_STREAM,
    };
    if how == "io_uring" {
        return calls::uring::ring("plain")?
            .socket(family, kind)
            .at("socket by io_uring")
            .map(calls::nothing);
    }
    // Key management knows one protocol.
    let protocol = if family == libc::AF_KEY { 2 } else { 0 };
    sockets::socket(family, kind, protocol).at("socket").map(calls::nothing)
}
