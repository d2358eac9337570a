//! Whoever has a service's name is the service.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "unix-squat",
    told: "take the name of a local service",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/evil.sock"])
            .given("network.families", "unix")
            .allowed_by("network.bind", "unix {dir}/evil.sock")
            .refused(Hook::PathMknod, Family::File, Reason::NoRule)
            .needing("unix-bind")
            .about("{dir}/evil.sock"),
        ATTACK
            .row(&["@evil"])
            .given("network.families", "unix")
            .allowed_by("network.bind", "unix @evil")
            .refused(Hook::SocketBind, Family::Network, Reason::NoRule)
            .needing("unix-bind")
            .about("@evil"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [name] = arguments(words)?;
    let socket = sockets::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).at("socket")?;
    sockets::bind(&socket, &sockets::unix(name)?).at("bind").map(calls::nothing)
}
