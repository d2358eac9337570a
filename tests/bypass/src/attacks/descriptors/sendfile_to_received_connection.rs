//! The same with a connection that came over a unix socket.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "sendfile-to-received-connection",
    told: "have somebody outside pass me a connection and send a file over it",
    kernels: Kernels::Only(&["6.12", "6.18", "7"]),
    ordinary: true,
    rows,
    run: super::received_connection::run,
};

fn rows() -> Vec<Case> {
    vec![super::received_connection::row(&ATTACK, "sendfile", Hook::SocketSendmsg)]
}
