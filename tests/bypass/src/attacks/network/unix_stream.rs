//! A local service does for others what they may not do themselves.

use nix::sys::socket::{Backlog, listen};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "unix-stream",
    told: "talk to a local service",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let connect = |kind: &str, name: &str| {
        ATTACK
            .row(&[kind, name])
            .given("network.families", "unix")
            .prepared(serve)
            .allowed_by("network.connect", &format!("unix {name}"))
            .refused(Hook::UnixStreamConnect, Family::Network, Reason::NoRule)
            .about(name)
    };
    vec![
        connect("stream", "{dir}/stream"),
        connect("stream", "@bypass-stream"),
        connect("seqpacket", "{dir}/seqpacket"),
        connect("seqpacket", "@bypass-seqpacket"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [kind, name] = arguments(words)?;
    let kind = if kind == "stream" { libc::SOCK_STREAM } else { libc::SOCK_SEQPACKET };
    let socket = sockets::socket(libc::AF_UNIX, kind, 0).at("socket")?;
    sockets::connect(&socket, &sockets::unix(name)?).at("connect")?;
    sockets::send(&socket)
}

/// Listens on all four. Connections wait in the backlog for ever, which is enough to have been made.
fn serve(directory: &Path) {
    for (kind, word) in [(libc::SOCK_STREAM, "stream"), (libc::SOCK_SEQPACKET, "seqpacket")] {
        let path = directory.join(word);
        for name in [path.to_str().expect("the path is text"), &format!("@bypass-{word}")] {
            let socket = sockets::socket(libc::AF_UNIX, kind, 0).expect("a unix socket");
            // An abstract name stays with whoever bound it first, in an earlier phase.
            if sockets::bind(&socket, &sockets::unix(name).expect("a unix name")).is_ok() {
                listen(&socket, Backlog::MAXCONN).expect("listening");
                std::mem::forget(socket);
            }
        }
    }
}
