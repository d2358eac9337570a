//! A source route sends a packet somewhere else first.

use crate::calls::sockets;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "source-route",
    told: "send a datagram where I may, by way of somewhere else",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        row(&ATTACK, "option", "127.0.0.9:7136", Hook::SocketSetsockopt),
        row(&ATTACK, "control", "127.0.0.9:7136", Hook::SocketSendmsg),
    ]
}

pub(super) fn row(attack: &Attack, how: &str, to: &str, hook: Hook) -> Case {
    attack
        .row(&[how, to])
        .given("network.families", "inet")
        .given("network.families", "inet6")
        .given("network.connect", &format!("udp {to}"))
        .allowed_by("privileges.allow", "raw-headers")
        .refused(hook, Family::Privilege, Reason::Privilege)
        .about("raw-headers")
}

fn run(words: &[&str]) -> Outcome {
    let [how, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, 0, to)?;
    // Loose source route: kind, length, pointer, the first hop; end of options.
    let route = [131, 7, 4, 127, 0, 0, 1, 0];
    if how == "control" {
        return sockets::send_with_control(&socket, &address, libc::IPPROTO_IP, libc::IP_RETOPTS, &route);
    }
    sockets::set_option(&socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &route).at("IP_OPTIONS")?;
    sockets::send_to(&socket, &address, 0)
}
