//! Echo requests carry data, and need no privilege where ping groups are set.

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "ping",
    told: "call home inside a ping",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .reaching(&["127.0.0.1:0"], "other 127.0.0.1:0", "127.0.0.1")
            .refused(Hook::SocketSendmsg, Family::Network, Reason::NoRule)
            .prepared(everybody_may_ping),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, libc::IPPROTO_ICMP, to)?;
    // Type 8, code 0, and room for checksum, identifier and sequence, which the kernel fills in.
    let request = [&[8, 0, 0, 0, 0, 0, 0, 1], sockets::PAYLOAD].concat();
    sockets::send_bytes(&socket, &request, &sockets::bytes(&address), 0)
}

fn everybody_may_ping(_: &Path) {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").expect("setting the ping groups");
}
