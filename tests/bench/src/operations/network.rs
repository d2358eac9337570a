//! Sockets, all of them on loopback or within this process.

use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::sockopt::{self, Linger, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrLike,
    SockaddrStorage, UnixAddr, accept, bind as bind_to, connect, listen as listen_on, recv, recvmsg, send,
    sendmsg, sendto, setsockopt, socket as new_socket, socketpair,
};

use super::Run;
use super::files::is_refused;
use super::syscall::{Bytes, Number, syscall};
use crate::fixture::{DATAGRAM_SOCKET, PORT, REFUSED_PORT, SHALLOW, STREAM_SOCKET};

const MESSAGE: [u8; 32] = [7; 32];

fn v4(port: u16) -> SockaddrStorage {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()
}

fn v6(port: u16) -> SockaddrStorage {
    SocketAddr::from((Ipv6Addr::LOCALHOST, port)).into()
}

fn open(family: AddressFamily, kind: SockType) -> nix::Result<OwnedFd> {
    new_socket(family, kind, SockFlag::SOCK_CLOEXEC, None)
}

fn family_of(address: &SockaddrStorage) -> Result<AddressFamily> {
    address.family().context("an address has a family")
}

fn server(address: &dyn SockaddrLike, family: AddressFamily, kind: SockType) -> Result<OwnedFd> {
    let server = open(family, kind)?;
    setsockopt(&server, ReuseAddr, &true)?;
    bind_to(server.as_raw_fd(), address).context("binding the server")?;
    if kind == SockType::Stream {
        listen_on(&server, Backlog::new(16)?)?;
    }
    Ok(server)
}

/// Connects, accepts, and closes both ends without a trace: a reset leaves no `TIME_WAIT` behind.
fn tcp_connect(address: SockaddrStorage) -> Result<Run> {
    let family = family_of(&address)?;
    let server = server(&address, family, SockType::Stream)?;
    let reset = libc::linger { l_onoff: 1, l_linger: 0 };
    Ok(Box::new(move || {
        let client = open(family, SockType::Stream)?;
        connect(client.as_raw_fd(), &address)?;
        let accepted = accept(server.as_raw_fd())?;
        // SAFETY: `accept` has just made it, and nobody else owns it.
        let accepted = unsafe { OwnedFd::from_raw_fd(accepted) };
        setsockopt(&client, Linger, &reset)?;
        drop(client);
        drop(accepted);
        Ok(())
    }))
}

pub(super) fn tcp4_connect(_: u32) -> Result<Run> {
    tcp_connect(v4(PORT))
}

pub(super) fn tcp6_connect(_: u32) -> Result<Run> {
    tcp_connect(v6(PORT))
}

fn udp_connect(address: SockaddrStorage) -> Result<Run> {
    let socket = open(family_of(&address)?, SockType::Datagram)?;
    Ok(Box::new(move || Ok(connect(socket.as_raw_fd(), &address)?)))
}

pub(super) fn udp4_connect(_: u32) -> Result<Run> {
    udp_connect(v4(PORT))
}

pub(super) fn udp6_connect(_: u32) -> Result<Run> {
    udp_connect(v6(PORT))
}

pub(super) fn refused_connect(_: u32) -> Result<Run> {
    // Nobody listens: who is not refused by policy gets another error.
    let socket = open(AddressFamily::Inet, SockType::Stream)?;
    let address = v4(REFUSED_PORT);
    Ok(Box::new(move || {
        let result = connect(socket.as_raw_fd(), &address);
        ensure!(is_refused(result), "connecting to port {REFUSED_PORT} gave {result:?}");
        Ok(())
    }))
}

fn take(socket: &OwnedFd) -> Result<()> {
    let mut room = MESSAGE;
    let length = recv(socket.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT)?;
    ensure!(length == MESSAGE.len(), "received {length} bytes");
    Ok(())
}

pub(super) fn udp4_sendto(_: u32) -> Result<Run> {
    let address = v4(PORT);
    let server = server(&address, AddressFamily::Inet, SockType::Datagram)?;
    let client = open(AddressFamily::Inet, SockType::Datagram)?;
    Ok(Box::new(move || {
        sendto(client.as_raw_fd(), &MESSAGE, &address, MsgFlags::empty())?;
        take(&server)
    }))
}

pub(super) fn udp4_send(_: u32) -> Result<Run> {
    let address = v4(PORT);
    let server = server(&address, AddressFamily::Inet, SockType::Datagram)?;
    let client = open(AddressFamily::Inet, SockType::Datagram)?;
    connect(client.as_raw_fd(), &address)?;
    Ok(Box::new(move || {
        send(client.as_raw_fd(), &MESSAGE, MsgFlags::empty())?;
        take(&server)
    }))
}

fn pair(kind: SockType) -> Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?)
}

pub(super) fn socketpair_send(_: u32) -> Result<Run> {
    let (near, far) = pair(SockType::Stream)?;
    Ok(Box::new(move || {
        send(near.as_raw_fd(), &MESSAGE, MsgFlags::empty())?;
        take(&far)
    }))
}

pub(super) fn receive_file(_: u32) -> Result<Run> {
    let (near, far) = pair(SockType::Datagram)?;
    let file = File::open(SHALLOW).context("opening the file to pass on")?;
    let mut space = nix::cmsg_space!(libc::c_int);
    Ok(Box::new(move || {
        let passed = [file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&passed)];
        let flags = MsgFlags::empty();
        sendmsg::<()>(near.as_raw_fd(), &[IoSlice::new(&MESSAGE)], &rights, flags, None)?;
        let mut room = MESSAGE;
        let mut parts = [IoSliceMut::new(&mut room)];
        let message = recvmsg::<()>(far.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let Some(ControlMessageOwned::ScmRights(received)) = message.cmsgs()?.next() else {
            anyhow::bail!("the file was not received");
        };
        let [received] = received[..] else { anyhow::bail!("received {} files", received.len()) };
        // SAFETY: the kernel has just put it into our table, and nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(received) });
        Ok(())
    }))
}

fn unix_server(path: &str, kind: SockType) -> Result<(UnixAddr, OwnedFd)> {
    let _ = fs::remove_file(path);
    let address = UnixAddr::new(path)?;
    Ok((address, server(&address, AddressFamily::Unix, kind)?))
}

pub(super) fn unix_connect(_: u32) -> Result<Run> {
    let (address, server) = unix_server(STREAM_SOCKET, SockType::Stream)?;
    Ok(Box::new(move || {
        let client = open(AddressFamily::Unix, SockType::Stream)?;
        connect(client.as_raw_fd(), &address)?;
        let accepted = accept(server.as_raw_fd())?;
        // SAFETY: `accept` has just made it, and nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(accepted) });
        Ok(())
    }))
}

pub(super) fn unix_sendto(_: u32) -> Result<Run> {
    let (address, server) = unix_server(DATAGRAM_SOCKET, SockType::Datagram)?;
    let client = open(AddressFamily::Unix, SockType::Datagram)?;
    Ok(Box::new(move || {
        sendto(client.as_raw_fd(), &MESSAGE, &address, MsgFlags::empty())?;
        take(&server)
    }))
}

pub(super) fn socket(_: u32) -> Result<Run> {
    Ok(Box::new(|| Ok(open(AddressFamily::Inet, SockType::Datagram).map(drop)?)))
}

pub(super) fn bind(_: u32) -> Result<Run> {
    let address = v4(PORT);
    Ok(Box::new(move || {
        let socket = open(AddressFamily::Inet, SockType::Datagram)?;
        Ok(bind_to(socket.as_raw_fd(), &address)?)
    }))
}

pub(super) fn set_option(_: u32) -> Result<Run> {
    let socket = open(AddressFamily::Inet, SockType::Datagram)?;
    Ok(Box::new(move || Ok(setsockopt(&socket, sockopt::Ipv4Ttl, &64)?)))
}

/// `struct sockaddr_in` of the benchmark's port on 127.0.0.`host`.
fn sctp_address(host: u8) -> [u8; 16] {
    let [high, low] = PORT.to_be_bytes();
    let mut address = [0; 16];
    address[..8].copy_from_slice(&[2, 0, high, low, 127, 0, 0, host]);
    address
}

/// A second address for an SCTP socket, and away with it.
pub(super) fn sctp_bind_another(_: u32) -> Result<Run> {
    const SOL_SCTP: i64 = 132;
    const SCTP_SOCKOPT_BINDX_ADD: i64 = 100;
    const SCTP_SOCKOPT_BINDX_REM: i64 = 101;
    let [family, stream] = [libc::AF_INET, libc::SOCK_STREAM].map(|it| Number(it.into()));
    let socket = syscall(libc::SYS_socket, [family, stream, Number(libc::IPPROTO_SCTP.into())])?;
    // SAFETY: the kernel has just made it, and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(i32::try_from(socket)?) };
    let number = i64::from(socket.as_raw_fd());
    syscall(libc::SYS_bind, [Number(number), Bytes(&sctp_address(1)), Number(16)])?;
    let second = sctp_address(2);
    Ok(Box::new(move || {
        let number = i64::from(socket.as_raw_fd());
        for option in [SCTP_SOCKOPT_BINDX_ADD, SCTP_SOCKOPT_BINDX_REM] {
            let arguments = [Number(number), Number(SOL_SCTP), Number(option), Bytes(&second), Number(16)];
            syscall(libc::SYS_setsockopt, arguments)?;
        }
        Ok(())
    }))
}

pub(super) fn listen(_: u32) -> Result<Run> {
    let server = server(&v4(PORT), AddressFamily::Inet, SockType::Stream)?;
    let backlog = Backlog::new(16)?;
    Ok(Box::new(move || Ok(listen_on(&server, backlog)?)))
}
