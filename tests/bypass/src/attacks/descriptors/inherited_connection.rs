//! A connection that somebody else made carries data without any address.

use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "inherited-connection",
    told: "send over a connection that I was started with",
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
        .row(&[how, "{fd}"])
        .given("network.families", "inet")
        .inherits(Inherited::Connection("tcp4"))
        .allowed_by("network.connect", "tcp {tcp4}")
        .about("{tcp4}")
        .refused(hook, Family::Network, Reason::NoRule)
}

pub(super) fn run(words: &[&str]) -> Outcome {
    let [how, from] = arguments(words)?;
    let socket = calls::borrowed(calls::number(from)?);
    match how {
        "write" => nix::unistd::write(socket, sockets::PAYLOAD).at("write").map(calls::nothing),
        "send" => sockets::send(&socket),
        "splice" => {
            let (read, write) = nix::unistd::pipe().at("pipe")?;
            nix::unistd::write(&write, sockets::PAYLOAD).at("write")?;
            let length = sockets::PAYLOAD.len();
            splice(&read, None, socket, None, length, SpliceFFlags::empty()).at("splice").map(calls::nothing)
        }
        _ => {
            let file = memfd_create(c"payload", MFdFlags::MFD_CLOEXEC).at("memfd_create")?;
            nix::unistd::write(&file, sockets::PAYLOAD).at("write")?;
            let mut offset = 0;
            let length = sockets::PAYLOAD.len();
            sendfile(socket, &file, Some(&mut offset), length).at("sendfile").map(calls::nothing)
        }
    }
}
