//! Operations on sockets.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrLike as _, SockaddrStorage,
};

/// What every datagram and every connection carries.
const PAYLOAD: &[u8] = b"exfiltrated";

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("connect-tcp", [to]) => tcp_connect(to),
        ("sendto", [to]) => udp_sendto(to),
        ("sendto-udplite", [to]) => udplite_sendto(to),
        ("send-many", [how, to @ ..]) => send_many(*how == "connected", to),
        ("unix-bind", [name]) => unix_bind(name),
        ("unix-connect", [name]) => unix_connect(name),
        _ => return None,
    })
}

/// The socket that fits the address, and the address.
fn inet(kind: SockType, address: &str) -> Result<(OwnedFd, SockaddrStorage), Failure> {
    let address: SocketAddr =
        address.parse().map_err(|_| Failure { step: format!("address {address}"), errno: libc::EINVAL })?;
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).at("socket")?;
    Ok((socket, SockaddrStorage::from(address)))
}

fn done(sent: usize) -> String {
    format!("{sent} bytes")
}

fn tcp_connect(to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Stream, to)?;
    socket::connect(socket.as_raw_fd(), &address).at("connect")?;
    socket::send(socket.as_raw_fd(), PAYLOAD, MsgFlags::MSG_NOSIGNAL).at("send").map(done)
}

fn udp_sendto(to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Datagram, to)?;
    socket::sendto(socket.as_raw_fd(), PAYLOAD, &address, MsgFlags::empty()).at("sendto").map(done)
}

/// By a socket that `nix` does not know.
fn udplite_sendto(to: &str) -> Outcome {
    let (_, address) = inet(SockType::Datagram, to)?;
    let family = address.family().unwrap_or(AddressFamily::Inet);
    // SAFETY: takes no pointers.
    let socket =
        unsafe { libc::socket(family as i32, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::IPPROTO_UDPLITE) };
    let socket = nix::errno::Errno::result(socket).at("socket")?;
    // SAFETY: the kernel has just made it, for us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    socket::sendto(socket.as_raw_fd(), PAYLOAD, &address, MsgFlags::empty()).at("sendto").map(done)
}

/// One `sendmmsg(2)` with a datagram to each address; from a socket that is connected to the first, without naming any.
/// Tells how many were sent.
fn send_many(connected: bool, to: &[&str]) -> Outcome {
    let [first, ..] = to else { return Err(Failure { step: "no address".into(), errno: libc::EINVAL }) };
    let (socket, _) = inet(SockType::Datagram, first)?;
    let names: Vec<_> = to.iter().map(|to| Ok(inet(SockType::Datagram, to)?.1)).collect::<Result<_, _>>()?;
    if connected {
        socket::connect(socket.as_raw_fd(), &names[0]).at("connect")?;
    }
    let names: Vec<_> = names.into_iter().map(|name| (!connected).then_some(name)).collect();
    let mut room = MultiHeaders::preallocate(names.len(), None);
    let parts = vec![[IoSlice::new(PAYLOAD)]; names.len()];
    let sent = socket::sendmmsg(socket.as_raw_fd(), &mut room, &parts, &names, [], MsgFlags::empty());
    sent.at("sendmmsg").map(|sent| sent.count().to_string())
}

/// `@name` is an abstract name, anything else a path.
fn unix_address(name: &str) -> Result<std::os::unix::net::SocketAddr, Failure> {
    match name.strip_prefix('@') {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name),
        None => std::os::unix::net::SocketAddr::from_pathname(name),
    }
    .at("address")
}

fn unix_bind(name: &str) -> Outcome {
    UnixListener::bind_addr(&unix_address(name)?).at("bind").map(|_| String::new())
}

fn unix_connect(name: &str) -> Outcome {
    UnixStream::connect_addr(&unix_address(name)?).at("connect").map(|_| String::new())
}
