//! Sockets: their creation, and everything that names a peer or a local address.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::SocketLabel,
    decide::{self, Request},
    field::Field,
    hook::Hook,
    net::{Direction, Flow, IPPROTO_SCTP, v4_mapped},
    rights::Rights,
    verdict::{Family, Fault, Verdict},
};

use super::pointer;
use crate::{
    control::{PASS, Point},
    kernel::{self, Raw, Typed},
    maps::SOCKETS,
    name::{self, Name, Place},
    subject::Subject,
};

const AF_UNSPEC: u16 = 0;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_RAW: i32 = 3;
const SOCK_PACKET: i32 = 10;
/// Bytes of `struct sockaddr_in` and of the shortest `struct sockaddr_in6` (RFC 2133).
const SIN_LEN: i32 = 16;
const SIN6_LEN: i32 = 24;
/// `SCTP_SOCKOPT_BINDX_ADD`, `SCTP_PRIMARY_ADDR`, `SCTP_SET_PEER_PRIMARY_ADDR`, `SCTP_PARAM_ADD_IP` and the rest name
/// peers; this one names local addresses.
const SCTP_BINDX_ADD: i32 = 100;

const fn net_point(hook: Hook) -> Point {
    Point::new(hook, Family::Network)
}

/// Judges `socket(2)`. Sockets that the kernel opens for itself pass. (Oldest kernel: 5.7.)
#[lsm(hook = "socket_create")]
pub fn socket_create(ctx: LsmContext) -> i32 {
    let (family, kind) = (ctx.arg::<i32>(0), ctx.arg::<i32>(1));
    let (protocol, kernel) = (ctx.arg::<i32>(2), ctx.arg::<i32>(3));
    if kernel != 0 {
        return PASS;
    }
    let point = net_point(Hook::SocketCreate);
    point.judge(|subject| {
        let inet = family == i32::from(AF_INET) || family == i32::from(AF_INET6);
        // Netlink sockets are raw by custom, and harmless for it.
        let raw = kind == SOCK_PACKET || (inet && kind == SOCK_RAW);
        let (family, protocol) = (family.cast_unsigned(), protocol.cast_unsigned());
        point.decide(subject, &Request::Socket { family, raw, protocol })
    })
}

/// A transport address: none if the request carries none that is judged.
type Address = Option<([u8; 16], u16)>;

/// Reads a socket address. `unspecified` says what `AF_UNSPEC` stands for: UDP over IPv4 takes it for `AF_INET` when
/// sending and binding.
#[inline(always)]
fn read_address(from: Raw, len: i32, unspecified: u16) -> Result<Address, Fault> {
    if from.is_null() || len < 2 {
        return Ok(None);
    }
    let mut family = from.load::<u16>()?;
    if family == AF_UNSPEC {
        family = unspecified;
    }
    if family == AF_INET && len >= SIN_LEN {
        let port = u16::from_be(Raw(from.0 + 2).load::<u16>()?);
        return Ok(Some((v4_mapped(Raw(from.0 + 4).load::<[u8; 4]>()?), port)));
    }
    if family == AF_INET6 && len >= SIN6_LEN {
        let port = u16::from_be(Raw(from.0 + 2).load::<u16>()?);
        return Ok(Some((Raw(from.0 + 8).load::<[u8; 16]>()?, port)));
    }
    // Too short, or of a family the protocol will refuse.
    Ok(None)
}

/// The family and protocol of a socket, and its `struct sock`.
#[derive(Clone, Copy)]
struct Socket {
    sk: Typed,
    family: u16,
    protocol: u32,
}

impl Socket {
    #[inline(always)]
    fn of(socket: Typed) -> Option<Self> {
        let sk = socket.follow(Field::SocketSk);
        if sk.is_null() {
            return None;
        }
        Some(Self {
            sk,
            family: sk.get(Field::SockFamily),
            protocol: u32::from(sk.get::<u16>(Field::SockProtocol)),
        })
    }

    #[inline(always)]
    const fn is_inet(self) -> bool {
        self.family == AF_INET || self.family == AF_INET6
    }
}

#[inline(always)]
fn judge_address(
    point: Point,
    subject: &Subject,
    protocol: u32,
    direction: Direction,
    address: Result<Address, Fault>,
) -> i32 {
    match address {
        Ok(Some((address, port))) => {
            let flow = Flow::of(protocol, direction);
            point.decide(subject, &Request::Address { address, port, flow })
        }
        Ok(None) => PASS,
        Err(fault) => point.fault(subject, Rights::NONE, fault),
    }
}

/// Notes that the subject's policy allowed the peer that the socket is connected to; every way to change the peer is
/// judged by itself. (Not noted at `connect`: that may fail because the socket is connected already, to somebody else.)
/// Without storage nothing is noted, and every send is judged.
#[inline(always)]
fn note(subject: &Subject, socket: Socket) {
    if let Some(label) = kernel::socket_storage(&SOCKETS, socket.sk, true) {
        *label = SocketLabel {
            slot: subject.slot,
            incarnation: subject.incarnation,
            generation: subject.maps.generation,
        };
    }
}

/// Whether the policy in force has allowed the socket's peer.
#[inline(always)]
fn is_noted(subject: &Subject, socket: Socket) -> bool {
    kernel::socket_storage(&SOCKETS, socket.sk, false).is_some_and(|label| {
        label.generation == subject.maps.generation
            && label.slot == subject.slot
            && label.incarnation == subject.incarnation
    })
}

/// Judges `connect(2)`. Unix sockets are judged where the peer is known. `AF_UNSPEC` dissolves an association.
/// (Oldest kernel: 5.7.)
#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    let (socket, address, len) = (pointer(&ctx, 0), pointer(&ctx, 1), ctx.arg::<i32>(2));
    let point = net_point(Hook::SocketConnect);
    point.judge(|subject| match Socket::of(socket) {
        Some(socket) if socket.is_inet() => {
            let address = read_address(address.raw(), len, AF_UNSPEC);
            judge_address(point, subject, socket.protocol, Direction::Connect, address)
        }
        _ => PASS,
    })
}

/// Judges sends that name their destination: unconnected datagrams, and `MSG_FASTOPEN`, which connects. Other sends are
/// judged by the peer unless the policy in force has allowed it already: the connection may have been inherited, or
/// received from another process, or be older than the policy. (Oldest kernel: 5.7.)
#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(ctx: LsmContext) -> i32 {
    let (socket, message) = (pointer(&ctx, 0), pointer(&ctx, 1));
    let point = net_point(Hook::SocketSendmsg);
    point.judge(|subject| match Socket::of(socket) {
        Some(socket) if socket.is_inet() => {
            let destination = message.follow(Field::MsgName);
            if destination.is_null() {
                return judge_peer(point, subject, socket);
            }
            // IPv6 takes `AF_UNSPEC` for "no destination".
            let unspecified = if socket.family == AF_INET { AF_INET } else { AF_UNSPEC };
            let address = read_address(destination.raw(), message.get::<i32>(Field::MsgNameLen), unspecified);
            judge_address(point, subject, socket.protocol, Direction::Connect, address)
        }
        _ => PASS,
    })
}

/// Judges sending to whoever a socket is connected to: someone it may connect to, or someone who connected to an
/// address that it may listen on.
#[inline(always)]
fn judge_peer(point: Point, subject: &Subject, socket: Socket) -> i32 {
    if is_noted(subject, socket) {
        return PASS;
    }
    match peer_address(socket.sk.raw(), socket.family) {
        Ok(Some((address, port))) => {
            let flow = Flow::of(socket.protocol, Direction::Connect);
            if !serves(subject, socket) {
                let verdict = point.decide(subject, &Request::Address { address, port, flow });
                if verdict != PASS {
                    return verdict;
                }
            }
            note(subject, socket);
            PASS
        }
        // No peer: the kernel will say so.
        Ok(None) => PASS,
        Err(fault) => point.fault(subject, Rights::NONE, fault),
    }
}

/// Whether the socket's local address is one that the policy lets the workload listen on.
#[inline(never)]
fn serves(subject: &Subject, socket: Socket) -> bool {
    let Ok(Some((address, port))) = local_address(socket) else {
        return false;
    };
    let flow = Flow::of(socket.protocol, Direction::Bind);
    let request: Request<'_, Name> = Request::Address { address, port, flow };
    matches!(decide::decide(&request, subject.head, &subject.maps).verdict, Verdict::Allow)
}

/// The address a socket is connected to, if it is.
#[inline(always)]
fn peer_address(sk: Raw, family: u16) -> Result<Address, Fault> {
    let port = u16::from_be(sk.get::<u16>(Field::SockDport)?);
    if port == 0 {
        return Ok(None);
    }
    let address = if family == AF_INET {
        v4_mapped(sk.get::<[u8; 4]>(Field::SockDaddr)?)
    } else {
        sk.get::<[u8; 16]>(Field::SockV6Daddr)?
    };
    Ok(Some((address, port)))
}

/// Judges `bind(2)`: addresses, and abstract unix names. Unix paths come into being through `path_mknod`. (Oldest
/// kernel: 5.7.)
#[lsm(hook = "socket_bind")]
pub fn socket_bind(ctx: LsmContext) -> i32 {
    let (socket, address, len) = (pointer(&ctx, 0), pointer(&ctx, 1), ctx.arg::<i32>(2));
    let point = net_point(Hook::SocketBind);
    point.judge(|subject| match Socket::of(socket) {
        Some(socket) if socket.is_inet() => {
            let address = read_address(address.raw(), len, AF_INET);
            judge_address(point, subject, socket.protocol, Direction::Bind, address)
        }
        Some(socket) if socket.family == AF_UNIX => {
            // A name of two bytes asks the kernel for one of its own choice.
            if len <= 2 {
                return PASS;
            }
            judge_abstract(point, subject, Raw(address.raw().0 + 2), len - 2, Rights::UNIX_BIND)
        }
        _ => PASS,
    })
}

/// Judges an abstract name that starts at `name` with its NUL; passes if it is a path.
#[inline(always)]
fn judge_abstract(point: Point, subject: &Subject, name: Raw, len: i32, needed: Rights) -> i32 {
    match name.load::<u8>() {
        Ok(0) => {}
        Ok(_) => return PASS,
        Err(fault) => return point.fault(subject, needed, fault),
    }
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return point.fault(subject, needed, fault),
    };
    match name::of_abstract(Raw(name.0 + 1), len.cast_unsigned() - 1, scratch) {
        Ok(span) => point.decide(subject, &Request::Object { name: &span.name(scratch), needed }),
        Err(fault) => point.fault(subject, needed, fault),
    }
}

/// Judges `listen(2)` on the address that the socket has, which may never have been bound. (Oldest kernel: 5.7.)
#[lsm(hook = "socket_listen")]
pub fn socket_listen(ctx: LsmContext) -> i32 {
    let socket = pointer(&ctx, 0);
    let point = net_point(Hook::SocketListen);
    point.judge(|subject| match Socket::of(socket) {
        Some(socket) if socket.is_inet() => {
            let address = local_address(socket);
            judge_address(point, subject, socket.protocol, Direction::Bind, address)
        }
        _ => PASS,
    })
}

#[inline(always)]
fn local_address(socket: Socket) -> Result<Address, Fault> {
    let port = socket.sk.get::<u16>(Field::SockNum);
    let address = if socket.family == AF_INET {
        v4_mapped(socket.sk.embedded(Field::SockRcvSaddr).load::<[u8; 4]>()?)
    } else {
        socket.sk.embedded(Field::SockV6RcvSaddr).load::<[u8; 16]>()?
    };
    Ok(Some((address, port)))
}

/// Judges connecting to a unix stream socket, by the path it is bound to or its abstract name. (Oldest kernel: 5.7.)
#[lsm(hook = "unix_stream_connect")]
pub fn unix_stream_connect(ctx: LsmContext) -> i32 {
    let peer = pointer(&ctx, 1).raw();
    judge_unix_peer(net_point(Hook::UnixStreamConnect), || Ok(peer))
}

/// Judges sending to a unix datagram socket. (Oldest kernel: 5.7.)
#[lsm(hook = "unix_may_send")]
pub fn unix_may_send(ctx: LsmContext) -> i32 {
    let peer = pointer(&ctx, 1).raw();
    judge_unix_peer(net_point(Hook::UnixMaySend), || peer.follow(Field::SocketSk))
}

#[inline(always)]
fn judge_unix_peer(point: Point, peer: impl FnOnce() -> Result<Raw, Fault>) -> i32 {
    point.judge(|subject| match peer().and_then(unix_peer) {
        // Neither path nor name: one end of a socketpair, or a client that someone passed on.
        Ok(UnixPeer::Unnamed) => PASS,
        Ok(UnixPeer::Path(place)) => point.decide_place(subject, place, false, Rights::UNIX_CONNECT),
        Ok(UnixPeer::Abstract(name, len)) => judge_abstract(point, subject, name, len, Rights::UNIX_CONNECT),
        Err(fault) => point.fault(subject, Rights::UNIX_CONNECT, fault),
    })
}

enum UnixPeer {
    Unnamed,
    Path(Place<Raw>),
    /// The name with its leading NUL, and its length with it.
    Abstract(Raw, i32),
}

#[inline(always)]
fn unix_peer(peer: Raw) -> Result<UnixPeer, Fault> {
    let place = Place::of_raw_path(peer.embedded(Field::UnixPath))?;
    if !place.dentry.is_null() {
        return Ok(UnixPeer::Path(place));
    }
    let address = peer.follow(Field::UnixAddr)?;
    if address.is_null() {
        return Ok(UnixPeer::Unnamed);
    }
    let len = address.get::<i32>(Field::UnixAddressLen)?;
    if len <= 2 {
        return Ok(UnixPeer::Unnamed);
    }
    Ok(UnixPeer::Abstract(Raw(address.embedded(Field::UnixAddressName).0 + 2), len - 2))
}

/// Judges SCTP's own ways to bind and connect. A list of several addresses is refused whole: judging them one by one
/// needs a loop over attacker-chosen lengths that no policy has asked for yet. (Oldest kernel: 5.7.)
#[lsm(hook = "sctp_bind_connect")]
pub fn sctp_bind_connect(ctx: LsmContext) -> i32 {
    let (option, address, len) = (ctx.arg::<i32>(1), pointer(&ctx, 2), ctx.arg::<i32>(3));
    let point = net_point(Hook::SctpBindConnect);
    point.judge(|subject| {
        let direction = if option == SCTP_BINDX_ADD { Direction::Bind } else { Direction::Connect };
        match read_address(address.raw(), len, AF_UNSPEC) {
            Ok(Some((address, port))) if len <= 28 => {
                let flow = Flow::of(IPPROTO_SCTP, direction);
                point.decide(subject, &Request::Address { address, port, flow })
            }
            Ok(_) => point.fault(subject, Rights::NONE, Fault::KernelRead),
            Err(fault) => point.fault(subject, Rights::NONE, fault),
        }
    })
}
