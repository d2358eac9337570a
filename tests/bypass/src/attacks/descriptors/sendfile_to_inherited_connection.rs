//! `sendfile(2)` sends without `sendmsg`, but since 6.5 the kernel takes that way itself.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "sendfile-to-inherited-connection",
    told: "send a file over a connection that I was started with",
    kernels: Kernels::Only(&["6.12", "6.18", "7"]),
    ordinary: true,
    rows,
    run: super::inherited_connection::run,
};

fn rows() -> Vec<Case> {
    vec![super::inherited_connection::row(&ATTACK, "sendfile", Hook::SocketSendmsg)]
}
