//! Before 6.5, `sendfile(2)` hands over pages by a way of its own, which does not pass `socket_sendmsg`.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "sendpage-to-inherited-connection",
    told: "send a file over a connection that I was started with, or that somebody passed me",
    kernels: Kernels::Only(&["6.1"]),
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        super::inherited_connection::row(&ATTACK, "sendfile", Hook::FilePermission),
        super::inherited_connection::row(&ATTACK, "splice", Hook::FilePermission),
        super::received_connection::row(&ATTACK, "sendfile", Hook::FilePermission),
    ]
}

fn run(words: &[&str]) -> Outcome {
    if words.iter().any(|word| word.starts_with('@')) {
        return super::received_connection::run(words);
    }
    super::inherited_connection::run(words)
}
