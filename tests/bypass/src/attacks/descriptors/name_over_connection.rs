//! A connection does not look at the address that a send names, and some sockets take one of no family for none.

use crate::calls::sockets;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "name-over-connection",
    told: "send over a connection that I was started with, and name somebody whom I may send to",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |named: &str, inherited: Inherited, peer: &str, rule: &str| {
        ATTACK
            .row(&[named, "{fd}"])
            .given("network.families", "inet")
            .given("network.families", "inet6")
            .given("network.connect", "any 127.0.0.9:9")
            .inherits(inherited)
            .allowed_by("network.connect", rule)
            .about(peer)
            .refused(Hook::SocketSendmsg, Family::Network, Reason::NoRule)
    };
    vec![
        row("127.0.0.9:9", Inherited::Connection("tcp4"), "{tcp4}", "tcp {tcp4}"),
        row("nobody", Inherited::Connection("tcp4"), "{tcp4}", "tcp {tcp4}"),
        row("nobody", Inherited::Datagrams("udp6"), "{udp6}", "udp {udp6}"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [named, socket] = arguments(words)?;
    let socket = calls::borrowed(calls::number(socket)?);
    let name = if named == "nobody" { vec![0; 28] } else { sockets::bytes(&sockets::parse(named)?) };
    sockets::send_bytes(&socket, sockets::PAYLOAD, &name, 0)
}
