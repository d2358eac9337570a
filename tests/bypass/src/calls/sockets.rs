//! Sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::sys::socket::{
    self, AddressFamily, ControlMessageOwned, MsgFlags, SockaddrLike, SockaddrStorage, UnixAddr,
};

use crate::attack::failure;

/// What every datagram and every connection carries.
pub(crate) const PAYLOAD: &[u8] = b"exfiltrated";

/// `socket(2)`, with any numbers.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    super::descriptor(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })
}

pub(crate) fn parse(text: &str) -> Result<SockaddrStorage, Failure> {
    let address: SocketAddr =
        text.parse().map_err(|_| Failure { step: format!("address {text}"), errno: libc::EINVAL })?;
    Ok(SockaddrStorage::from(address))
}

/// A socket that fits the address, and the address: v4-mapped ones need a v6 socket.
pub(crate) fn towards(kind: i32, protocol: i32, to: &str) -> Result<(OwnedFd, SockaddrStorage), Failure> {
    let address = parse(to)?;
    let family = match to.parse::<SocketAddr>().map(|address| address.ip()) {
        Ok(IpAddr::V4(_)) => libc::AF_INET,
        _ => libc::AF_INET6,
    };
    Ok((socket(family, kind, protocol).at("socket")?, address))
}

pub(crate) fn connect(socket: &OwnedFd, address: &dyn SockaddrLike) -> io::Result<()> {
    // SAFETY: address and length belong together.
    super::check(unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr(), address.len()) }).map(drop)
}

/// Takes the peer away: `connect(2)` to `AF_UNSPEC`.
pub(crate) fn disconnect(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: all-zero is an address of no family.
    let nobody: libc::sockaddr = unsafe { core::mem::zeroed() };
    let length = libc::socklen_t::try_from(size_of_val(&nobody)).unwrap_or(0);
    // SAFETY: address and length belong together.
    super::check(unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) }).map(drop)
}

pub(crate) fn bind(socket: &OwnedFd, address: &dyn SockaddrLike) -> io::Result<()> {
    // SAFETY: address and length belong together.
    super::check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr(), address.len()) }).map(drop)
}

pub(crate) fn send(socket: &impl AsRawFd) -> Outcome {
    socket::send(socket.as_raw_fd(), PAYLOAD, MsgFlags::MSG_NOSIGNAL).at("send").map(told)
}

/// `sendto(2)` with these flags.
pub(crate) fn send_to(socket: &OwnedFd, address: &dyn SockaddrLike, flags: i32) -> Outcome {
    // SAFETY: an address is as long as it says.
    let bytes = unsafe { core::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.len() as usize) };
    send_bytes(socket, PAYLOAD, bytes, flags)
}

/// `sendto(2)` of anything to any address.
pub(crate) fn send_bytes(socket: &impl AsRawFd, payload: &[u8], address: &[u8], flags: i32) -> Outcome {
    let length = libc::socklen_t::try_from(address.len()).unwrap_or(0);
    // SAFETY: payload and address are as long as said.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            payload.as_ptr().cast(),
            payload.len(),
            flags | libc::MSG_NOSIGNAL,
            address.as_ptr().cast(),
            length,
        )
    };
    super::check(i64::try_from(sent).unwrap_or(-1)).at("sendto").map(|sent| format!("{sent} bytes"))
}

/// `setsockopt(2)`, with anything.
pub(crate) fn set_option(socket: &OwnedFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the value is as long as said.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    super::check(set).map(drop)
}

/// Sends the payload to an address, with one control message.
pub(crate) fn send_with_control(
    socket: &OwnedFd,
    address: &SockaddrStorage,
    level: i32,
    kind: i32,
    data: &[u8],
) -> Outcome {
    let (mut to, words) = (bytes(address), control(level, kind, data));
    let mut part = part();
    let mut message = message(&mut to, &mut part);
    message.msg_control = words.as_ptr().cast_mut().cast();
    message.msg_controllen = size_of_val(words.as_slice());
    // SAFETY: the message and all it points to outlive the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    super::check(i64::try_from(sent).unwrap_or(-1)).at("sendmsg").map(|sent| format!("{sent} bytes"))
}

/// Sends two datagrams to the same address by one call, the second with these control messages.
pub(crate) fn send_two(socket: &OwnedFd, address: &SockaddrStorage, control: &[u64]) -> Outcome {
    let (mut to, mut part) = (bytes(address), part());
    let message = message(&mut to, &mut part);
    let mut messages = [libc::mmsghdr { msg_hdr: message, msg_len: 0 }; 2];
    messages[1].msg_hdr.msg_control = control.as_ptr().cast_mut().cast();
    messages[1].msg_hdr.msg_controllen = size_of_val(control);
    // SAFETY: two messages, and all they point to outlives the call.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), 2, libc::MSG_NOSIGNAL) };
    both(super::check(sent))
}

/// Whether two datagrams were sent.
pub(crate) fn both(sent: io::Result<i64>) -> Outcome {
    match sent.at("sendmmsg")? {
        2 => Ok("two datagrams".into()),
        // Of what stopped the second, nothing is told.
        _ => Err(failure("the second datagram", libc::EIO)),
    }
}

/// A control message: length, level and kind, then the data, in whole words, as the kernel wants them aligned.
pub(crate) fn control(level: i32, kind: i32, data: &[u8]) -> Vec<u64> {
    let length = size_of::<libc::cmsghdr>() + data.len();
    let mut control =
        [length.to_ne_bytes().as_slice(), &level.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
    control.resize(length.next_multiple_of(8), 0);
    control.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default())).collect()
}

fn part() -> libc::iovec {
    libc::iovec { iov_base: PAYLOAD.as_ptr().cast_mut().cast(), iov_len: PAYLOAD.len() }
}

/// A message to an address, without control messages.
fn message(to: &mut [u8], part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all-zero is a message without anything.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_name = to.as_mut_ptr().cast();
    message.msg_namelen = libc::socklen_t::try_from(to.len()).unwrap_or(0);
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}

/// A socket address as the kernel reads it, without the room that is left for longer ones.
pub(crate) fn bytes(address: &SockaddrStorage) -> Vec<u8> {
    let length = match address.family() {
        Some(AddressFamily::Inet) => size_of::<libc::sockaddr_in>(),
        Some(AddressFamily::Inet6) => size_of::<libc::sockaddr_in6>(),
        _ => address.len() as usize,
    };
    // SAFETY: an address of this family is that long.
    unsafe { core::slice::from_raw_parts(address.as_ptr().cast::<u8>(), length) }.to_vec()
}

fn told(sent: usize) -> String {
    format!("{sent} bytes")
}

/// The address of a unix socket: `@name` is an abstract name, anything else a path.
pub(crate) fn unix(name: &str) -> Result<UnixAddr, Failure> {
    match name.strip_prefix('@') {
        Some(name) => UnixAddr::new_abstract(name.as_bytes()),
        None => UnixAddr::new(name),
    }
    .at("address")
}

/// As [`unix`], for the standard library.
pub(crate) fn unix_name(name: &str) -> Result<std::os::unix::net::SocketAddr, Failure> {
    match name.strip_prefix('@') {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name),
        None => std::os::unix::net::SocketAddr::from_pathname(name),
    }
    .at("address")
}

/// Connects to a unix socket whose owner answers with an open descriptor, and takes that.
///
/// A refused one simply does not arrive: the kernel delivers the message without it and sets `MSG_CTRUNC`.
pub(crate) fn receive_descriptor(name: &str) -> Result<OwnedFd, Failure> {
    let stream = std::os::unix::net::UnixStream::connect_addr(&unix_name(name)?).at("connect")?;
    let mut byte = [0; 1];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        socket::recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).at("recvmsg")?;
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(Failure { step: "descriptor withheld".into(), errno: libc::EPERM });
    }
    let received = message.cmsgs().at("cmsgs")?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let number = received.ok_or_else(|| Failure { step: "no descriptor".into(), errno: libc::ENODATA })?;
    super::descriptor(number).at("recvmsg")
}
