//! Whoever may administer the network need not connect to anything that is not listed: what goes to a listed address is
//! routed, or translated, to somewhere else.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use nix::sys::socket::{MsgFlags, SockaddrIn, send};

use crate::calls::sockets;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "administer-network",
    told: "lead packets to a listed address somewhere else",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |how: &str, hook: Hook| {
        ATTACK
            .row(&[how])
            .given("network.families", "inet")
            .given("network.families", "inet6")
            .given("network.families", "netlink")
            .allowed_by("privileges.allow", "network-admin")
            .refused(hook, Family::Privilege, Reason::Privilege)
            .about("network-admin")
    };
    vec![
        row("route", Hook::Capable),
        row("netlink", Hook::Capable),
        // By a worker, of whose system call nothing can be told.
        row("io-uring", Hook::Capable),
        // Legacy tables are a module that not every kernel has.
        row("filter", Hook::SocketSetsockopt).prepared(load_tables).optional(),
        row("filter-6", Hook::SocketSetsockopt).prepared(load_tables).optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    match how {
        "route" => route(),
        "netlink" => {
            let socket = sockets::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0).at("socket")?;
            send(socket.as_raw_fd(), &new_address(), MsgFlags::empty()).at("send")?;
            answer(socket)
        }
        "io-uring" => {
            let socket = sockets::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0).at("socket")?;
            calls::uring::ring("async")?.send(&socket, &new_address()).at("send by io_uring")?;
            answer(socket)
        }
        "filter-6" => replace_table(libc::AF_INET6, libc::IPPROTO_IPV6),
        _ => replace_table(libc::AF_INET, libc::IPPROTO_IP),
    }
}

/// A route to a network of documentation (198.51.100.0/24) over the loopback device, and away with it.
fn route() -> Outcome {
    let network: libc::sockaddr_in = *SockaddrIn::new(198, 51, 100, 0, 0).as_ref();
    let mask: libc::sockaddr_in = *SockaddrIn::new(255, 255, 255, 0, 0).as_ref();
    // SAFETY: all-zero is a value of this structure.
    let mut route: libc::rtentry = unsafe { core::mem::zeroed() };
    // SAFETY: both kinds of addresses have the same size, and the kernel looks at the family.
    unsafe {
        route.rt_dst = core::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(network);
        route.rt_genmask = core::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(mask);
    }
    route.rt_flags = libc::RTF_UP;
    route.rt_dev = c"lo".as_ptr().cast_mut();
    let socket = sockets::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).at("socket")?;
    // SAFETY: the kernel reads the route and the name of its device.
    let added = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) };
    calls::check(added).at("SIOCADDRT")?;
    // SAFETY: as above.
    unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCDELRT, &raw const route) };
    Ok(String::new())
}

/// `RTM_NEWADDR`: 198.51.100.1/32 for the first device (the loopback), whether it has it already or not; the kernel is to
/// answer. Whoever owns an address answers for it.
fn new_address() -> Vec<u8> {
    const RTM_NEWADDR: u16 = 20;
    const REQUEST_ACK_CREATE_REPLACE: u16 = 0x1 | 0x4 | 0x400 | 0x100;
    const IFA_LOCAL: u16 = 2;
    let header = [
        32_u32.to_ne_bytes().as_slice(),
        &RTM_NEWADDR.to_ne_bytes(),
        &REQUEST_ACK_CREATE_REPLACE.to_ne_bytes(),
        &[0; 8],
    ]
    .concat();
    // struct ifaddrmsg: family, bits of the prefix, flags, scope, device.
    let message = [[2, 32, 0, 0].as_slice(), &1_u32.to_ne_bytes()].concat();
    let local = [8_u16.to_ne_bytes().as_slice(), &IFA_LOCAL.to_ne_bytes(), &[198, 51, 100, 1]].concat();
    [header, message, local].concat()
}

/// What the kernel answers: an error number, zero for success.
fn answer(socket: OwnedFd) -> Outcome {
    let mut answer = [0_u8; 256];
    let read = std::fs::File::from(socket).read(&mut answer).at("recv")?;
    let number = answer.get(16..20).filter(|_| read >= 20).and_then(|bytes| bytes.try_into().ok());
    match number.map(i32::from_ne_bytes) {
        Some(0) => Ok(String::new()),
        Some(error) => Err(failure("the kernel's answer", -error)),
        None => Err(failure("a short answer", libc::EBADMSG)),
    }
}

/// `IPT_SO_SET_REPLACE`, on a socket of any kind. The kernel's parser speaking about nonsense means that the attacker got that
/// far.
fn replace_table(family: i32, level: i32) -> Outcome {
    const REPLACE: i32 = 64;
    let socket = sockets::socket(family, libc::SOCK_DGRAM, 0).at("socket")?;
    match sockets::set_option(&socket, level, REPLACE, &[0; 128]) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EFAULT | libc::ENOMEM)) => {
            Ok("reached the packet filter".into())
        }
        other => other.at("IPT_SO_SET_REPLACE").map(calls::nothing),
    }
}

fn load_tables(_: &Path) {
    for module in ["ip_tables", "ip6_tables"] {
        let status = Command::new("modprobe").args(["-q", module]).status();
        assert!(status.is_ok(), "starting modprobe: {status:?}");
    }
}
