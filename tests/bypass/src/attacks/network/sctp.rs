//! SCTP has ways of its own to connect.

use std::os::fd::AsRawFd;

use nix::sys::socket::{Backlog, listen};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack =
    Attack { name: "sctp", told: "call home over SCTP", kernels: Kernels::All, ordinary: true, rows, run };

fn rows() -> Vec<Case> {
    let sctp = |how: &str| {
        ATTACK
            .row(&[how, "127.0.0.1:7132"])
            .given("network.families", "inet")
            .prepared(serve)
            .allowed_by("network.connect", "sctp 127.0.0.1:7132")
            .about("127.0.0.1:7132")
            .optional()
    };
    vec![
        sctp("connect").refused(Hook::SocketConnect, Family::Network, Reason::NoRule),
        sctp("sendto").refused(Hook::SocketSendmsg, Family::Network, Reason::NoRule),
        sctp("connectx").refused(Hook::SctpBindConnect, Family::Network, Reason::NoRule),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, to] = arguments(words)?;
    // One-to-many sockets connect with the first message.
    let kind = if how == "sendto" { libc::SOCK_SEQPACKET } else { libc::SOCK_STREAM };
    let (socket, address) = sockets::towards(kind, libc::IPPROTO_SCTP, to)?;
    match how {
        "connect" => {
            sockets::connect(&socket, &address).at("connect")?;
            sockets::send(&socket)
        }
        "connectx" => {
            let list = sockets::bytes(&address);
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
            calls::check(connected).at("sctp_connectx")?;
            sockets::send(&socket)
        }
        _ => sockets::send_to(&socket, &address, 0),
    }
}

const SCTP_SOCKOPT_CONNECTX: i32 = 110;

/// Listens, if this kernel has SCTP at all.
fn serve(_: &Path) {
    let Ok((socket, address)) = sockets::towards(libc::SOCK_STREAM, libc::IPPROTO_SCTP, "127.0.0.1:7132")
    else {
        return;
    };
    // It is bound already after the first phase.
    if sockets::bind(&socket, &address).is_ok() {
        listen(&socket, Backlog::MAXCONN).expect("listening");
        std::thread::spawn(move || {
            while let Ok(connection) = nix::sys::socket::accept(socket.as_raw_fd()) {
                std::mem::forget(calls::descriptor(connection));
            }
        });
    }
}
