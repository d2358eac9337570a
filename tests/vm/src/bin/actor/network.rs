//! Operations on sockets.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage,
    UnixAddr, sockopt,
};

use crate::{files, system};

/// What every datagram and every connection carries.
const PAYLOAD: &[u8] = b"exfiltrated";

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("connect-tcp", [to]) => tcp_connect(to),
        ("connect-mptcp", [to]) => mptcp_connect(to),
        ("connect-udp", [to]) => udp_connect(to),
        ("sendto", [to]) => udp_sendto(to),
        ("sendmsg", [to]) => udp_sendmsg(to),
        ("sendto-after-connect", [connected, to]) => udp_redirect(connected, to),
        ("fastopen", [to]) => tcp_fastopen(to),
        ("fastopen-connect", [to]) => tcp_fastopen_connect(to),
        ("bind-tcp", [at]) => bind(SockType::Stream, at).map(|_| String::new()),
        ("bind-udp", [at]) => bind(SockType::Datagram, at).map(|_| String::new()),
        ("listen", [at]) => listen(at),
        ("listen-unbound", []) => listen_unbound(),
        ("unix-connect", [name]) => unix_connect(name),
        ("unix-sendto", [name]) => unix_sendto(name),
        ("unix-bind", [name]) => unix_bind(name),
        ("socket", [family, kind]) => any_socket(family, kind, "0"),
        ("socket", [family, kind, protocol]) => any_socket(family, kind, protocol),
        ("receive-fd", [name]) => receive_descriptor(name),
        _ => return None,
    })
}

fn parse(text: &str) -> Result<SockaddrStorage, Failure> {
    let address: SocketAddr =
        text.parse().map_err(|_| Failure { step: format!("address {text}"), errno: libc::EINVAL })?;
    Ok(SockaddrStorage::from(address))
}

/// The socket that fits the address: v4-mapped addresses need a v6 one.
fn inet(kind: SockType, address: &str) -> Result<(OwnedFd, SockaddrStorage), Failure> {
    let storage = parse(address)?;
    let family = match address.parse::<SocketAddr>().map(|a| a.ip()) {
        Ok(IpAddr::V4(_)) => AddressFamily::Inet,
        _ => AddressFamily::Inet6,
    };
    let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).at("socket")?;
    Ok((socket, storage))
}

fn done(sent: usize) -> String {
    format!("{sent} bytes")
}

fn tcp_connect(to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Stream, to)?;
    socket::connect(socket.as_raw_fd(), &address).at("connect")?;
    socket::send(socket.as_raw_fd(), PAYLOAD, MsgFlags::MSG_NOSIGNAL).at("send").map(done)
}

fn mptcp_connect(to: &str) -> Outcome {
    let socket = system::raw_socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP).at("socket")?;
    socket::connect(socket.as_raw_fd(), &parse(to)?).at("connect")?;
    socket::send(socket.as_raw_fd(), PAYLOAD, MsgFlags::MSG_NOSIGNAL).at("send").map(done)
}

fn udp_connect(to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Datagram, to)?;
    socket::connect(socket.as_raw_fd(), &address).at("connect")?;
    socket::send(socket.as_raw_fd(), PAYLOAD, MsgFlags::empty()).at("send").map(done)
}

fn udp_sendto(to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Datagram, to)?;
    socket::sendto(socket.as_raw_fd(), PAYLOAD, &address, MsgFlags::empty()).at("sendto").map(done)
}

fn udp_sendmsg(to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Datagram, to)?;
    let parts = [IoSlice::new(PAYLOAD)];
    socket::sendmsg(socket.as_raw_fd(), &parts, &[], MsgFlags::empty(), Some(&address))
        .at("sendmsg")
        .map(done)
}

/// Connects where that is allowed, then sends somewhere else over the same socket.
fn udp_redirect(connected: &str, to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Datagram, connected)?;
    socket::connect(socket.as_raw_fd(), &address).at("connect")?;
    socket::sendto(socket.as_raw_fd(), PAYLOAD, &parse(to)?, MsgFlags::empty()).at("sendto").map(done)
}

/// Opens the connection with the first send: `connect` is never called.
fn tcp_fastopen(to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Stream, to)?;
    let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN) | MsgFlags::MSG_NOSIGNAL;
    socket::sendto(socket.as_raw_fd(), PAYLOAD, &address, flags).at("sendto").map(done)
}

/// `connect` only notes the address; the first send opens the connection.
fn tcp_fastopen_connect(to: &str) -> Outcome {
    let (socket, address) = inet(SockType::Stream, to)?;
    socket::setsockopt(&socket, sockopt::TcpFastOpenConnect, &true).at("setsockopt")?;
    socket::connect(socket.as_raw_fd(), &address).at("connect")?;
    socket::send(socket.as_raw_fd(), PAYLOAD, MsgFlags::MSG_NOSIGNAL).at("send").map(done)
}

fn bind(kind: SockType, at: &str) -> Result<OwnedFd, Failure> {
    let (socket, address) = inet(kind, at)?;
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true).at("setsockopt")?;
    socket::bind(socket.as_raw_fd(), &address).at("bind")?;
    Ok(socket)
}

fn listen(at: &str) -> Outcome {
    let socket = bind(SockType::Stream, at)?;
    socket::listen(&socket, Backlog::new(1).at("backlog")?).at("listen").map(|()| String::new())
}

/// `listen` binds by itself to a port of the kernel's choice.
fn listen_unbound() -> Outcome {
    let socket =
        socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).at("socket")?;
    socket::listen(&socket, Backlog::new(1).at("backlog")?).at("listen").map(|()| String::new())
}

/// `@name` is an abstract name, anything else a path.
fn unix_name(name: &str) -> Result<std::os::unix::net::SocketAddr, Failure> {
    match name.strip_prefix('@') {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name),
        None => std::os::unix::net::SocketAddr::from_pathname(name),
    }
    .at("address")
}

fn unix_connect(name: &str) -> Outcome {
    UnixStream::connect_addr(&unix_name(name)?).at("connect").map(|_| String::new())
}

fn unix_sendto(name: &str) -> Outcome {
    let socket = UnixDatagram::unbound().at("socket")?;
    socket.send_to_addr(PAYLOAD, &unix_name(name)?).at("sendto").map(done)
}

fn unix_bind(name: &str) -> Outcome {
    UnixListener::bind_addr(&unix_name(name)?).at("bind").map(|_| String::new())
}

fn any_socket(family: &str, kind: &str, protocol: &str) -> Outcome {
    let family = match family {
        "unix" => libc::AF_UNIX,
        "inet" => libc::AF_INET,
        "inet6" => libc::AF_INET6,
        "netlink" => libc::AF_NETLINK,
        "packet" => libc::AF_PACKET,
        "alg" => libc::AF_ALG,
        "vsock" => libc::AF_VSOCK,
        number => number.parse().map_err(|_| Failure { step: "family".into(), errno: libc::EINVAL })?,
    };
    let kind = match kind {
        "stream" => libc::SOCK_STREAM,
        "dgram" => libc::SOCK_DGRAM,
        "raw" => libc::SOCK_RAW,
        "seqpacket" => libc::SOCK_SEQPACKET,
        _ => return Err(Failure { step: "type".into(), errno: libc::EINVAL }),
    };
    let protocol = protocol.parse().map_err(|_| Failure { step: "protocol".into(), errno: libc::EINVAL })?;
    system::raw_socket(family, kind, protocol).at("socket").map(|_| String::new())
}

/// Connects to a unix socket whose owner answers with an open file. A refused file simply does not arrive: the kernel
/// delivers the message without it and sets `MSG_CTRUNC`.
fn receive_descriptor(name: &str) -> Outcome {
    let stream = UnixStream::connect_addr(&unix_name(name)?).at("connect")?;
    let mut byte = [0; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = socket::recvmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .at("recvmsg")?;
    let truncated = message.flags.contains(MsgFlags::MSG_CTRUNC);
    if truncated {
        return Err(Failure { step: "descriptor withheld".into(), errno: libc::EPERM });
    }
    let received = message.cmsgs().at("cmsgs")?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    match received {
        Some(fd) => {
            let mut content = [0; 64];
            let length = nix::unistd::read(files::owned(fd), &mut content).at("read")?;
            Ok(String::from_utf8_lossy(&content[..length]).into_owned())
        }
        None => Err(Failure { step: "no descriptor".into(), errno: libc::ENODATA }),
    }
}
