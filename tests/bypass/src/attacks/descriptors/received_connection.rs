//! The same with a connection that came over a unix socket.

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;

use std::net::{TcpListener, TcpStream};
use std::sync::Once;

use enforcer_vm_tests::servers;

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "received-connection",
    told: "have somebody outside pass me a connection",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![row(&ATTACK, "write", Hook::SocketSendmsg), row(&ATTACK, "send", Hook::SocketSendmsg)]
}

pub(super) fn row(attack: &Attack, how: &str, hook: Hook) -> Case {
    attack
        .row(&[how, "@bypass-connection-giver"])
        .given("network.families", "inet")
        .prepared(serve)
        .given("network.connect", "unix @bypass-connection-giver")
        .allowed_by("network.connect", "tcp 127.0.0.1:7134")
        .about("127.0.0.1:7134")
        .refused(hook, Family::Network, Reason::NoRule)
}

pub(super) fn run(words: &[&str]) -> Outcome {
    let [how, from] = arguments(words)?;
    let socket = sockets::receive_descriptor(from)?;
    match how {
        "write" => nix::unistd::write(&socket, sockets::PAYLOAD).at("write").map(calls::nothing),
        "send" => sockets::send(&socket),
        _ => {
            let file = memfd_create(c"payload", MFdFlags::MFD_CLOEXEC).at("memfd_create")?;
            nix::unistd::write(&file, sockets::PAYLOAD).at("write")?;
            let mut offset = 0;
            let length = sockets::PAYLOAD.len();
            sendfile(&socket, &file, Some(&mut offset), length).at("sendfile").map(calls::nothing)
        }
    }
}

static SERVERS: Once = Once::new();

fn serve(_: &Path) {
    SERVERS.call_once(|| {
        let listener = TcpListener::bind("127.0.0.1:7134").expect("binding a TCP server");
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut connection, &mut std::io::sink()));
            }
        });
        let connect = || TcpStream::connect("127.0.0.1:7134").ok().map(Into::into);
        servers::descriptor_giver("@bypass-connection-giver", connect);
    });
}
