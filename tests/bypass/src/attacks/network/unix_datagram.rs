//! The same with datagrams.

use std::os::unix::net::UnixDatagram;

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "unix-datagram",
    told: "send a local service a datagram",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let send = |how: &str, name: &str| {
        ATTACK
            .row(&[how, name])
            .given("network.families", "unix")
            .prepared(serve)
            .allowed_by("network.connect", &format!("unix {name}"))
            .refused(Hook::UnixMaySend, Family::Network, Reason::NoRule)
            .about(name)
    };
    vec![
        send("sendto", "{dir}/datagram"),
        send("sendto", "@bypass-datagram"),
        send("connect", "{dir}/datagram"),
        send("connect", "@bypass-datagram"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, name] = arguments(words)?;
    let socket = sockets::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0).at("socket")?;
    let address = sockets::unix(name)?;
    if how == "connect" {
        sockets::connect(&socket, &address).at("connect")?;
        sockets::send(&socket)
    } else {
        sockets::send_to(&socket, &address, 0)
    }
}

/// Receives on both names, so that no queue fills up.
fn serve(directory: &Path) {
    let path = directory.join("datagram");
    for name in [path.to_str().expect("the path is text"), "@bypass-datagram"] {
        // An abstract name stays with whoever bound it first, in an earlier phase.
        if let Ok(socket) = UnixDatagram::bind_addr(&sockets::unix_name(name).expect("a unix name")) {
            std::thread::spawn(move || while socket.recv(&mut [0; 64]).is_ok() {});
        }
    }
}
