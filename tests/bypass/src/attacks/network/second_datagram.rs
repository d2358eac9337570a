//! The kernel asks about the first of several datagrams to the same destination, whatever else the others say.

use std::os::fd::AsRawFd;

use crate::calls::sockets;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "second-datagram",
    told: "send two datagrams where I may in one call, the second by way of somewhere else",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![super::source_route::row(&ATTACK, "sendmmsg", "127.0.0.9:7136", Hook::SocketSendmsg)]
}

fn run(words: &[&str]) -> Outcome {
    let [_, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, 0, to)?;
    let mut name = sockets::bytes(&address);
    // Loose source route: kind, length, pointer, the first hop; end of options. A header of 16 bytes stands before it.
    let route = u64::from_ne_bytes([131, 7, 4, 127, 0, 0, 1, 0]);
    let kind =
        u64::from(libc::IPPROTO_IP.cast_unsigned()) | u64::from(libc::IP_RETOPTS.cast_unsigned()) << 32;
    let mut control = [24, kind, route];
    let mut part = libc::iovec {
        iov_base: sockets::PAYLOAD.as_ptr().cast_mut().cast(),
        iov_len: sockets::PAYLOAD.len(),
    };
    // SAFETY: all-zero is a message without anything.
    let mut messages: [libc::mmsghdr; 2] = unsafe { core::mem::zeroed() };
    for message in &mut messages {
        message.msg_hdr.msg_name = name.as_mut_ptr().cast();
        message.msg_hdr.msg_namelen = libc::socklen_t::try_from(name.len()).unwrap_or(0);
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
    }
    messages[1].msg_hdr.msg_control = control.as_mut_ptr().cast();
    messages[1].msg_hdr.msg_controllen = size_of_val(&control);
    // SAFETY: two messages, and all they point to outlives the call.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), 2, 0) };
    match calls::check(sent).at("sendmmsg")? {
        2 => Ok("two datagrams".into()),
        _ => Err(failure("the second datagram", libc::EPERM)),
    }
}
