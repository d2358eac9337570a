//! Sockets: their creation, and everything that names a peer or a local address.

use core::ops::ControlFlow;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::{AllowedAddress, SocketLabel},
    decide::{self, Request, Step},
    field::Field,
    hook::{Hook, Privilege},
    net::{Direction, Flow, IPPROTO_SCTP},
    rights::Rights,
    verdict::{Family, Fault, Verdict},
};

use super::pointer;
use crate::{
    control::{PASS, Point, privilege, refused},
    kernel::{self, Raw, Typed},
    maps::SOCKETS,
    name::{self, Cursor, Name, Place},
    subject::{Claim, Subject},
    tables::repeat,
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
/// Bytes of `struct sockaddr_in6` in SCTP's lists.
const SIN6_LEN_IN_LIST: u64 = 28;
/// Most addresses in a list that are looked at. A longer list is refused.
const MAX_ADDRESSES: u32 = 256;
/// Most control messages that are looked at. One of more is refused.
const MAX_CONTROLS: u32 = 64;
/// Bytes of `struct cmsghdr`, to whose size control messages are aligned by half.
const CMSG_LEN: u64 = 16;
const MAY_WRITE: i32 = 2;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const IPPROTO_RAW: i32 = 255;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_DCCP: u32 = 33;
const IPPROTO_MPTCP: u32 = 262;
const MSG_FASTOPEN: u32 = 0x2000_0000;
const SOL_IP: i32 = 0;
const SOL_IPV6: i32 = 41;
const SOL_SCTP: i32 = 132;
const SOL_RAW: i32 = 255;
// Options, and control messages of the same name.
const IP_HDRINCL: i32 = 3;
const IP_OPTIONS: i32 = 4;
const IP_RETOPTS: i32 = 7;
const IP_XFRM_POLICY: i32 = 17;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_FLOWLABEL_MGR: i32 = 32;
const IPV6_XFRM_POLICY: i32 = 35;
const IPV6_HDRINCL: i32 = 36;
const IPV6_RTHDR: i32 = 57;
// Options of packet filters (`IPT_BASE_CTL`) and multicast routing (`MRT_BASE`), and how many the latter has.
const NETFILTER: i32 = 64;
const NETFILTER_END: i32 = 66;
const MULTICAST_ROUTING: i32 = 200;
const MULTICAST_ROUTING_END: i32 = 220;
const SCTP_DSTADDRV4: i32 = 7;
const SCTP_DSTADDRV6: i32 = 8;
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
    let inet = family == i32::from(AF_INET) || family == i32::from(AF_INET6);
    // With this protocol the headers are the sender's business from the start.
    if inet && kind == SOCK_RAW && protocol == IPPROTO_RAW {
        let verdict = privilege(Hook::SocketCreate, Privilege::RawHeaders);
        if verdict != PASS {
            return verdict;
        }
    }
    let point = net_point(Hook::SocketCreate);
    point.judge(|subject| {
        // Netlink sockets are raw by custom, and harmless for it.
        let raw = kind == SOCK_PACKET || (inet && kind == SOCK_RAW);
        let (family, protocol) = (family.cast_unsigned(), protocol.cast_unsigned());
        point.decide(subject, &Request::Socket { family, raw, protocol })
    })
}

/// Judges options that put other destinations into a packet than the one that is judged: whole headers, source routes
/// (also as part of flow labels), IPsec policies of the socket's own. (Oldest kernel: 5.7.)
#[lsm(hook = "socket_setsockopt")]
pub fn socket_setsockopt(ctx: LsmContext) -> i32 {
    let (level, option) = (ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    let writes_headers = match level {
        SOL_IP => matches!(option, IP_HDRINCL | IP_OPTIONS | IP_XFRM_POLICY),
        SOL_IPV6 => matches!(
            option,
            IPV6_HDRINCL | IPV6_RTHDR | IPV6_2292PKTOPTIONS | IPV6_FLOWLABEL_MGR | IPV6_XFRM_POLICY
        ),
        SOL_RAW => option == IPV6_HDRINCL,
        _ => false,
    };
    if writes_headers {
        privilege(Hook::SocketSetsockopt, Privilege::RawHeaders)
    } else if is_administration(level, option) {
        privilege(Hook::SocketSetsockopt, Privilege::NetworkAdmin)
    } else {
        PASS
    }
}

/// Whether an option is about everybody's packets: rules of a packet filter lead what goes to a listed address somewhere else.
/// A socket of any kind takes them. Over IPv4 all numbers from there on are such; over IPv6, sockets have options between.
#[inline(always)]
const fn is_administration(level: i32, option: i32) -> bool {
    match level {
        SOL_IP => option >= NETFILTER,
        SOL_IPV6 => {
            (option >= NETFILTER && option < NETFILTER_END)
                || (option >= MULTICAST_ROUTING && option < MULTICAST_ROUTING_END)
        }
        _ => false,
    }
}

/// A transport address: none if the request carries none that is judged.
type Address = Option<Endpoint>;

/// An IPv6 address, or an IPv4 one as v4-mapped, in memory order; and a port in host byte order.
type Endpoint = ([u64; 2], u16);

/// An IPv4 address in memory order as an IPv6 one.
#[inline(always)]
const fn mapped(address: u32) -> [u64; 2] {
    [0, 0xffff_0000 | (address as u64) << 32]
}

/// The bytes of an address.
#[inline(always)]
fn bytes(address: [u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address[0].to_ne_bytes());
    bytes[8..].copy_from_slice(&address[1].to_ne_bytes());
    bytes
}

/// Reads a socket address that the kernel has copied. `unspecified` says what `AF_UNSPEC` stands for: IPv4 takes it for
/// `AF_INET` when sending and binding.
#[inline(always)]
fn read_address(from: Raw, len: i32, unspecified: u16) -> Result<Address, Fault> {
    if from.is_null() || len < 2 {
        return Ok(None);
    }
    // Family, port and IPv4 address lie in the first eight bytes, which are there however short the address is.
    let first = from.peek::<u64>(0)?;
    let mut family = first as u16;
    if family == AF_UNSPEC {
        family = unspecified;
    }
    let port = u16::from_be((first >> 16) as u16);
    if family == AF_INET && len >= SIN_LEN {
        return Ok(Some((mapped((first >> 32) as u32), port)));
    }
    if family == AF_INET6 && len >= SIN6_LEN {
        return Ok(Some(([from.peek::<u64>(8)?, from.peek::<u64>(16)?], port)));
    }
    // Too short, or of a family the protocol will refuse.
    Ok(None)
}

/// The family and protocol of a socket, and its `struct sock`.
#[derive(Clone, Copy)]
struct Socket {
    sk: Typed,
    /// `SOCK_*`.
    kind: i16,
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
            kind: socket.get(Field::SocketType),
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
            let request = Request::Address { address: bytes(address), port, flow };
            let decision = decide::decide(&request, subject.head, &subject.maps);
            if matches!((decision.verdict, direction), (Verdict::Allow, Direction::Connect)) {
                remember(subject, (address, port), flow);
            }
            point.conclude(subject, &request, decision)
        }
        Ok(None) => PASS,
        Err(fault) => point.fault(subject, Rights::NONE, fault),
    }
}

/// Where in the label an address is remembered.
#[inline(always)]
const fn place_of(flow: Flow) -> usize {
    if flow.0 == Flow::TCP_CONNECT.0 { 0 } else { 1 }
}

/// Remembers an address that the policy allowed, so that it is not looked up each time: what a service connects to, it
/// connects to again.
#[inline(always)]
fn remember(subject: &Subject, (address, port): Endpoint, flow: Flow) {
    if !kernel::remembers() {
        return;
    }
    let allowed = AllowedAddress {
        generation: subject.maps.generation,
        slot: subject.slot,
        incarnation: subject.incarnation,
        address,
        port: u32::from(port),
        flow: flow.0,
    };
    subject.remember_address(place_of(flow), allowed);
}

/// Whether there is nothing to judge about connecting to an address, because it is none or the policy in force allowed
/// it just before.
#[inline(always)]
fn is_known(claim: Claim<'_>, protocol: u32, address: Result<Address, Fault>) -> bool {
    let Ok(address) = address else { return false };
    let Some(([low, high], port)) = address else { return true };
    let flow = Flow::of(protocol, Direction::Connect);
    let allowed = &claim.label.allowed[place_of(flow)];
    // The label may be older than the programs, which were told since to remember nothing.
    kernel::remembers()
        && allowed.generation == claim.generation
        && (allowed.slot, allowed.incarnation) == (claim.label.slot, claim.label.incarnation)
        && allowed.address[1] == high
        && allowed.address[0] == low
        && allowed.port == u32::from(port)
        && allowed.flow == flow.0
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
fn is_noted(claim: Claim<'_>, socket: Socket) -> bool {
    kernel::socket_storage(&SOCKETS, socket.sk, false).is_some_and(|label| {
        label.generation == claim.generation
            && label.slot == claim.label.slot
            && label.incarnation == claim.label.incarnation
    })
}

/// Judges `connect(2)`. Unix sockets are judged where the peer is known. `AF_UNSPEC` dissolves an association.
/// (Oldest kernel: 5.7.)
#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    let (socket, address, len) = (pointer(&ctx, 0), pointer(&ctx, 1), ctx.arg::<i32>(2));
    let point = net_point(Hook::SocketConnect);
    let is_answered = |claim: Claim<'_>| match Socket::of(socket) {
        Some(socket) if socket.is_inet() => {
            is_known(claim, socket.protocol, read_address(address.raw(), len, AF_UNSPEC))
        }
        _ => true,
    };
    point.judge_unless(is_answered, |subject| match Socket::of(socket) {
        Some(socket) if socket.is_inet() => {
            let address = read_address(address.raw(), len, AF_UNSPEC);
            judge_address(point, subject, socket.protocol, Direction::Connect, address)
        }
        _ => PASS,
    })
}

/// Judges sends that name their destination: unconnected datagrams, and `MSG_FASTOPEN`, which connects. Other sends, and
/// those that name one to no effect, are judged by the peer unless the policy in force has allowed it already: the
/// connection may have been inherited, or received from another process, or be older than the policy. (Oldest kernel:
/// 5.7.)
#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(ctx: LsmContext) -> i32 {
    let (socket, message) = (pointer(&ctx, 0), pointer(&ctx, 1));
    let point = net_point(Hook::SocketSendmsg);
    let is_answered = |claim: Claim<'_>| match Socket::of(socket) {
        Some(socket) if socket.is_inet() => {
            if message.get::<u64>(Field::MsgControlLen) != 0 || leads_others(socket, message) {
                return false;
            }
            match destination(socket, message) {
                Ok(None) => is_noted(claim, socket),
                address => is_known(claim, socket.protocol, address),
            }
        }
        _ => true,
    };
    point.judge_unless(is_answered, |subject| match Socket::of(socket) {
        Some(socket) if socket.is_inet() => {
            let verdict = judge_controls(subject, message);
            if verdict != PASS {
                return verdict;
            }
            let verdict = match destination(socket, message) {
                Ok(None) => judge_peer(point, subject, socket),
                address => judge_address(point, subject, socket.protocol, Direction::Connect, address),
            };
            if verdict == PASS && leads_others(socket, message) { judge_others(subject) } else { verdict }
        }
        _ => PASS,
    })
}

/// Whether a message may have others behind it that nobody asks about: `sendmmsg(2)` asks no hook about a message that names
/// the same destination as the one before it (`sock_sendmsg_nosec`, since 3.2), whatever its control messages say. Those of
/// connections lead nowhere.
#[inline(always)]
fn leads_others(socket: Socket, message: Typed) -> bool {
    let connects = matches!(socket.protocol, IPPROTO_TCP | IPPROTO_MPTCP | IPPROTO_DCCP);
    !connects && !message.follow(Field::MsgName).is_null() && kernel::sends_several()
}

/// Judges what nobody asks about: by what it could do at most, which is what [`judge_controls`] looks for.
#[inline(always)]
fn judge_others(subject: &Subject) -> i32 {
    Point::new(Hook::SocketSendmsg, Family::Privilege)
        .decide(subject, &Request::Privilege(Privilege::RawHeaders))
}

/// The destination that a message names; none if it goes to the peer.
#[inline(always)]
fn destination(socket: Socket, message: Typed) -> Result<Address, Fault> {
    let name = message.follow(Field::MsgName);
    let counts = match socket.protocol {
        // A connection does not look at names; where there is none, this flag makes one. (With it, and connected, nothing
        // is sent.)
        IPPROTO_TCP | IPPROTO_MPTCP => message.get::<u32>(Field::MsgFlags) & MSG_FASTOPEN != 0,
        IPPROTO_DCCP => false,
        _ => true,
    };
    if name.is_null() || !counts {
        return Ok(None);
    }
    // IPv4 and raw IPv6 sockets take no family for their own, other IPv6 sockets for "no destination".
    let unspecified = match socket.family {
        AF_INET6 if i32::from(socket.kind) != SOCK_RAW => AF_UNSPEC,
        own => own,
    };
    read_address(name.raw(), message.get::<i32>(Field::MsgNameLen), unspecified)
}

/// Judges control messages, which can do for one packet what [`socket_setsockopt`] judges for all, and name further
/// destinations of an SCTP association. The kernel has copied them already.
#[inline(always)]
fn judge_controls(subject: &Subject, message: Typed) -> i32 {
    let len = message.get::<u64>(Field::MsgControlLen);
    if len == 0 {
        return PASS;
    }
    controls_apart(subject, message.get::<u64>(Field::MsgControl), len)
}

/// Out of line, for the stack's sake.
#[inline(never)]
fn controls_apart(subject: &Subject, at: u64, len: u64) -> i32 {
    let point = Point::new(Hook::SocketSendmsg, Family::Privilege);
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return point.fault(subject, Rights::NONE, fault),
    };
    scratch.cursor = Cursor { at, end: at.saturating_add(len) };
    let mut controls = Controls { cursor: &mut scratch.cursor, found: 0 };
    repeat(MAX_CONTROLS, &mut controls);
    if controls.found == 0 && controls.cursor.at >= controls.cursor.end {
        return PASS;
    }
    point.decide(subject, &Request::Privilege(Privilege::RawHeaders))
}

/// Goes through control messages to one that names a destination, or to the end. What cannot be read counts as one.
struct Controls<'a> {
    cursor: &'a mut Cursor,
    found: u32,
}

impl Controls<'_> {
    #[inline(always)]
    fn control(&mut self) -> Result<ControlFlow<()>, Fault> {
        let at = self.cursor.at;
        let left = self.cursor.end.saturating_sub(at);
        // A rest that is too short for one is ignored by the kernel.
        if left < CMSG_LEN {
            self.cursor.at = self.cursor.end;
            return Ok(ControlFlow::Break(()));
        }
        let len = Raw(at).load::<u64>()?;
        let (level, kind) = (Raw(at + 8).load::<i32>()?, Raw(at + 12).load::<i32>()?);
        if len < CMSG_LEN || len > left {
            // Every protocol refuses it.
            self.cursor.at = self.cursor.end;
            return Ok(ControlFlow::Break(()));
        }
        let routes = match level {
            SOL_IP => kind == IP_RETOPTS,
            SOL_IPV6 => kind == IPV6_RTHDR || kind == IPV6_2292RTHDR,
            SOL_SCTP => kind == SCTP_DSTADDRV4 || kind == SCTP_DSTADDRV6,
            _ => false,
        };
        if routes {
            self.found = 1;
            return Ok(ControlFlow::Break(()));
        }
        self.cursor.at = at.saturating_add(len.saturating_add(7) & !7);
        Ok(ControlFlow::Continue(()))
    }
}

impl Step for Controls<'_> {
    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        self.control().unwrap_or_else(|_| {
            self.found = 1;
            ControlFlow::Break(())
        })
    }
}

/// Judges sending to whoever a socket is connected to: someone it may connect to, or someone who connected to an
/// address that it may listen on.
#[inline(always)]
fn judge_peer(point: Point, subject: &Subject, socket: Socket) -> i32 {
    match peer_address(socket.sk.raw(), socket.family) {
        Ok(Some(peer)) => {
            let verdict =
                judge_peer_at(point, subject, socket.sk.raw(), socket.family, socket.protocol, peer);
            if verdict == PASS {
                note(subject, socket);
            }
            verdict
        }
        // No peer: the kernel will say so.
        Ok(None) => PASS,
        Err(fault) => point.fault(subject, Rights::NONE, fault),
    }
}

#[inline(always)]
fn judge_peer_at(
    point: Point,
    subject: &Subject,
    sk: Raw,
    family: u16,
    protocol: u32,
    (address, port): Endpoint,
) -> i32 {
    if serves(subject, sk, family, protocol) {
        return PASS;
    }
    let flow = Flow::of(protocol, Direction::Connect);
    point.decide(subject, &Request::Address { address: bytes(address), port, flow })
}

/// Whether the socket's local address is one that the policy lets the workload listen on.
#[inline(never)]
fn serves(subject: &Subject, sk: Raw, family: u16, protocol: u32) -> bool {
    let Ok(Some((address, port))) = local_address(sk, family) else {
        return false;
    };
    let flow = Flow::of(protocol, Direction::Bind);
    let request: Request<'_, Name> = Request::Address { address: bytes(address), port, flow };
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
        mapped(sk.get::<u32>(Field::SockDaddr)?)
    } else {
        sk.get::<[u64; 2]>(Field::SockV6Daddr)?
    };
    Ok(Some((address, port)))
}

/// Judges `sendfile(2)` and `splice(2)` to a socket, by its peer. Attached on kernels before 6.5 only, which hand the
/// socket pages there and pass no `socket_sendmsg`. This hook sees every `read(2)` and `write(2)`, so what is not ours is
/// told first. (Oldest kernel: 5.7.)
#[lsm(hook = "file_permission")]
pub fn file_permission(ctx: LsmContext) -> i32 {
    let (file, mask) = (pointer(&ctx, 0), ctx.arg::<i32>(1));
    if mask & MAY_WRITE == 0 {
        return PASS;
    }
    let kind = file.follow(Field::FileInode).get::<u16>(Field::InodeMode) & S_IFMT;
    if kind != S_IFSOCK || kernel::is_in_plain_write() {
        return PASS;
    }
    let point = net_point(Hook::FilePermission);
    // The verifier does not know what a socket's file points to.
    let socket = file.follow(Field::FilePrivateData).raw();
    point.judge(|subject| match connection(socket) {
        Ok(Some((sk, family, protocol, peer))) => judge_peer_at(point, subject, sk, family, protocol, peer),
        Ok(None) => PASS,
        Err(fault) => point.fault(subject, Rights::NONE, fault),
    })
}

/// A connected internet socket: `struct sock`, family, protocol and peer.
type Connection = (Raw, u16, u32, Endpoint);

#[inline(always)]
fn connection(socket: Raw) -> Result<Option<Connection>, Fault> {
    let sk = socket.follow(Field::SocketSk)?;
    if sk.is_null() {
        return Ok(None);
    }
    let family = sk.get::<u16>(Field::SockFamily)?;
    if family != AF_INET && family != AF_INET6 {
        return Ok(None);
    }
    let protocol = u32::from(sk.get::<u16>(Field::SockProtocol)?);
    Ok(peer_address(sk, family)?.map(|peer| (sk, family, protocol, peer)))
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
            let address = local_address(socket.sk.raw(), socket.family);
            judge_address(point, subject, socket.protocol, Direction::Bind, address)
        }
        _ => PASS,
    })
}

#[inline(always)]
fn local_address(sk: Raw, family: u16) -> Result<Address, Fault> {
    let port = sk.get::<u16>(Field::SockNum)?;
    let address = if family == AF_INET {
        mapped(sk.get::<u32>(Field::SockRcvSaddr)?)
    } else {
        sk.get::<[u64; 2]>(Field::SockV6RcvSaddr)?
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
        Ok(UnixPeer::Path(place)) => point.decide_socket(subject, place, Rights::UNIX_CONNECT),
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

/// Judges SCTP's own ways to bind and connect: every address of a list. (Oldest kernel: 5.7.)
#[lsm(hook = "sctp_bind_connect")]
pub fn sctp_bind_connect(ctx: LsmContext) -> i32 {
    let (option, address, len) = (ctx.arg::<i32>(1), pointer(&ctx, 2), ctx.arg::<i32>(3));
    let point = net_point(Hook::SctpBindConnect);
    point.judge(|subject| {
        let direction = if option == SCTP_BINDX_ADD { Direction::Bind } else { Direction::Connect };
        let scratch = match name::scratch() {
            Ok(scratch) => scratch,
            Err(fault) => return point.fault(subject, Rights::NONE, fault),
        };
        let (at, len) = (address.raw().0, u64::from(len.max(0).cast_unsigned()));
        scratch.cursor = Cursor { at, end: at.saturating_add(len) };
        let flow = Flow::of(IPPROTO_SCTP, direction);
        let mut list = Addresses { subject, cursor: &mut scratch.cursor, flow, refused: 0 };
        repeat(MAX_ADDRESSES, &mut list);
        if list.refused != 0 {
            return refused();
        }
        // Something that is no address, or too much.
        if len == 0 || list.cursor.at != list.cursor.end {
            return point.fault(subject, Rights::NONE, Fault::KernelRead);
        }
        PASS
    })
}

/// Goes through SCTP's addresses, one behind the other, to one that is refused.
struct Addresses<'a> {
    subject: &'a Subject,
    cursor: &'a mut Cursor,
    flow: Flow,
    refused: u32,
}

impl Addresses<'_> {
    #[inline(always)]
    fn address(&mut self) -> Result<ControlFlow<()>, Fault> {
        let at = self.cursor.at;
        let left = self.cursor.end.saturating_sub(at);
        if left < 2 {
            return Ok(ControlFlow::Break(()));
        }
        let size = match Raw(at).load::<u16>()? {
            AF_INET => u64::from(SIN_LEN.cast_unsigned()),
            AF_INET6 => SIN6_LEN_IN_LIST,
            _ => return Ok(ControlFlow::Break(())),
        };
        if size > left {
            return Ok(ControlFlow::Break(()));
        }
        let Some((address, port)) = read_address(Raw(at), size as i32, AF_UNSPEC)? else {
            return Ok(ControlFlow::Break(()));
        };
        self.cursor.at = at.saturating_add(size);
        let request = Request::Address { address: bytes(address), port, flow: self.flow };
        if net_point(Hook::SctpBindConnect).decide(self.subject, &request) != PASS {
            self.refused = 1;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Step for Addresses<'_> {
    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        // Where it stopped tells.
        self.address().unwrap_or(ControlFlow::Break(()))
    }
}
