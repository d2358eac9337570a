//! The kernel asks about the first of several datagrams to the same destination, whatever else the others say.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::SockaddrStorage;

use crate::calls::{compat, sockets};
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "second-datagram",
    told: "send two datagrams where I may in one call, the second by way of somewhere else",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

/// Loose source route: kind, length, pointer, the first hop; end of options.
const ROUTE: [u8; 8] = [131, 7, 4, 127, 0, 0, 1, 0];

fn rows() -> Vec<Case> {
    let row = |how, to| super::source_route::row(&ATTACK, how, to, Hook::SocketSendmsg);
    vec![
        row("sendmmsg", "127.0.0.9:7136"),
        row("32-bit", "127.0.0.9:7136"),
        row("socketcall", "127.0.0.9:7136"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, to] = arguments(words)?;
    let (socket, address) = sockets::towards(libc::SOCK_DGRAM, 0, to)?;
    match how {
        "32-bit" => sockets::both(send_in_32_bits(socket.as_raw_fd(), &address, false)),
        "socketcall" => sockets::both(send_in_32_bits(socket.as_raw_fd(), &address, true)),
        _ => {
            let control = sockets::control(libc::IPPROTO_IP, libc::IP_RETOPTS, &ROUTE);
            sockets::send_two(&socket, &address, &control)
        }
    }
}

/// The same as a 32-bit program does it: the layout of all it hands over is another.
fn send_in_32_bits(socket: RawFd, address: &SockaddrStorage, by_socketcall: bool) -> io::Result<i64> {
    const SENDMMSG: u32 = 345;
    const SOCKETCALL: u32 = 102;
    const SYS_SENDMMSG: u32 = 20;
    let socket = socket.cast_unsigned();
    let low = compat::Low::new()?;
    let name = sockets::bytes(address);
    let (name, name_len) = (low.put_bytes(&name), compat::length(&name));
    let part = low.put(&[low.put_bytes(sockets::PAYLOAD), compat::length(sockets::PAYLOAD)]);
    // Length, level and kind, then the data.
    let control = low.put(&[20, libc::IPPROTO_IP.cast_unsigned(), libc::IP_RETOPTS.cast_unsigned()]);
    low.put_bytes(&ROUTE);
    let first = [name, name_len, part, 1, 0, 0, 0, 0];
    let second = [name, name_len, part, 1, control, 20, 0, 0];
    let messages = low.put([first, second].as_flattened());
    if by_socketcall {
        let arguments = low.put(&[socket, messages, 2, 0]);
        return compat::call(SOCKETCALL, [SYS_SENDMMSG, arguments, 0, 0]);
    }
    compat::call(SENDMMSG, [socket, messages, 2, 0])
}
