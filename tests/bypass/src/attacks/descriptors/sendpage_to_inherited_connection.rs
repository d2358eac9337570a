//! Before 6.5, `sendfile(2)` hands over pages by a way of its own, which has no hook.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "sendpage-to-inherited-connection",
    told: "send a file over a connection that I was started with",
    kernels: Kernels::Only(&["6.1"]),
    ordinary: true,
    rows,
    run: super::inherited_connection::run,
};

fn rows() -> Vec<Case> {
    vec![super::inherited_connection::row(&ATTACK, "sendfile")]
}
