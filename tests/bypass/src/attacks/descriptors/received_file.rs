//! A helper outside opens a secret and passes the descriptor in.

use std::sync::Once;

use enforcer_vm_tests::servers;

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "received-file",
    told: "have somebody outside pass me an open secret",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let received = |how: &str, socket: &str| {
        ATTACK
            .row(&[how, socket])
            .prepared(serve)
            .given("network.connect", &format!("unix {socket}"))
            .allowed_by("file.read", SECRET)
            .refused(Hook::FileReceive, Family::File, Reason::NoRule)
            .needing("read")
            .about(SECRET)
    };
    vec![
        received("recvmsg", "@bypass-giver"),
        received("plain", "@bypass-giver"),
        received("async", "@bypass-giver"),
        // A descriptor that is only a path can be opened later: as much as any right. It reads as both.
        received("recvmsg", "@bypass-path-giver").allowed_by("file.write", SECRET),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, socket] = arguments(words)?;
    let held = match how {
        "recvmsg" => sockets::receive_descriptor(socket)?,
        _ => calls::uring::receive_descriptor(&calls::uring::ring(how)?, socket)?,
    };
    if socket == "@bypass-path-giver" {
        return calls::files::steal(&calls::files::magic_link(&held));
    }
    // The giver opens it once for each.
    calls::files::steal_from(held)
}

const SECRET: &str = "/tmp/bypass-passed-secret";

static SERVERS: Once = Once::new();

fn serve(_: &Path) {
    std::fs::write(SECRET, "secret").expect("creating a file");
    SERVERS.call_once(|| {
        let file = |flags: OFlag| move || calls::files::open(SECRET, flags).ok();
        servers::descriptor_giver("@bypass-giver", file(OFlag::O_RDONLY));
        servers::descriptor_giver("@bypass-path-giver", file(OFlag::O_PATH));
    });
}
