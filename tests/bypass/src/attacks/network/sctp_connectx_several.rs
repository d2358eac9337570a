//! Several addresses in one call.

use std::os::fd::AsRawFd;

use nix::sys::socket::{Backlog, listen};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "sctp-connectx-several",
    told: "call home over SCTP, with a listed address in front",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["127.0.0.1:7133", "127.0.0.2:7133"])
            .given("network.families", "inet")
            .prepared(serve)
            .given("network.connect", "sctp 127.0.0.1:7133")
            .allowed_by("network.connect", "sctp 127.0.0.2:7133")
            .refused(Hook::SctpBindConnect, Family::Network, Reason::NoRule)
            .about("127.0.0.2:7133")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [listed, other] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_STREAM, libc::IPPROTO_SCTP, listed)?;
    let mut list = sockets::bytes(&address);
    list.extend(sockets::bytes(&sockets::parse(other)?));
    let length = libc::socklen_t::try_from(list.len()).unwrap_or(0);
    // SAFETY: the list is as long as said.
    let connected = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_SCTP,
            SCTP_SOCKOPT_CONNECTX,
            list.as_ptr().cast(),
            length,
        )
    };
    calls::check(connected).at("sctp_connectx").map(calls::nothing)
}

const SCTP_SOCKOPT_CONNECTX: i32 = 110;

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
