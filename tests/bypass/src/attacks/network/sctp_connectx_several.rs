//! Several addresses in one call.

use nix::sys::socket::{Backlog, listen};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "sctp-connectx-several",
    told: "name several addresses to SCTP, a listed one in front",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let several = |how: &str, listed: &str, other: &str| {
        ATTACK.row(&[how, listed, other]).given("network.families", "inet").prepared(serve).optional()
    };
    let listed = |how: &str, list: &'static str, first: &str, second: &str| {
        several(how, first, second)
            .given(list, &format!("sctp {first}"))
            .allowed_by(list, &format!("sctp {second}"))
            .refused(Hook::SctpBindConnect, Family::Network, Reason::NoRule)
            .about(second)
    };
    vec![
        listed("connectx", "network.connect", "127.0.0.1:7133", "127.0.0.2:7133"),
        listed("bindx", "network.bind", "127.0.0.1:7137", "127.0.0.2:7137"),
        several("control", "127.0.0.1:7133", "127.0.0.3:7133")
            .given("network.connect", "sctp 127.0.0.1:7133")
            .allowed_by("privileges.allow", "raw-headers")
            .refused(Hook::SocketSendmsg, Family::Privilege, Reason::Privilege)
            .about("raw-headers"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, listed, other] = arguments(words)?;
    let other = sockets::bytes(&sockets::parse(other)?);
    if how == "control" {
        // One-to-many sockets connect with the first message.
        let (socket, address) = sockets::towards(libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP, listed)?;
        let host = other.get(4..8).unwrap_or_default();
        return sockets::send_with_control(&socket, &address, libc::IPPROTO_SCTP, SCTP_DSTADDRV4, host);
    }
    let (socket, address) = sockets::towards(libc::SOCK_STREAM, libc::IPPROTO_SCTP, listed)?;
    let list = [sockets::bytes(&address), other].concat();
    let option = if how == "bindx" { SCTP_SOCKOPT_BINDX_ADD } else { SCTP_SOCKOPT_CONNECTX };
    sockets::set_option(&socket, libc::IPPROTO_SCTP, option, &list).at(how).map(calls::nothing)
}

const SCTP_SOCKOPT_BINDX_ADD: i32 = 100;
const SCTP_SOCKOPT_CONNECTX: i32 = 110;
const SCTP_DSTADDRV4: i32 = 7;

/// Listens, if this kernel has SCTP at all.
fn serve(_: &Path) {
    let Ok((socket, address)) = sockets::towards(libc::SOCK_STREAM, libc::IPPROTO_SCTP, "0.0.0.0:7133")
    else {
        return;
    };
    // It is bound already after the first phase.
    if sockets::bind(&socket, &address).is_ok() {
        listen(&socket, Backlog::MAXCONN).expect("listening");
        std::mem::forget(socket);
    }
}
