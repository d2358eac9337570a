//! Network requests in the form that rules are written in.

/// What a socket does, as bits of a port range. One bit per transport and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow(pub u32);

impl Flow {
    /// TCP (and MPTCP) connect, and whatever opens a connection: `MSG_FASTOPEN`, `TCP_FASTOPEN_CONNECT`.
    pub const TCP_CONNECT: Self = Self(1 << 0);
    /// TCP bind and listen.
    pub const TCP_BIND: Self = Self(1 << 1);
    /// UDP (and UDP-Lite) connect, and sending to an address.
    pub const UDP_CONNECT: Self = Self(1 << 2);
    /// UDP bind.
    pub const UDP_BIND: Self = Self(1 << 3);
    /// SCTP connect, and sending to an address.
    pub const SCTP_CONNECT: Self = Self(1 << 4);
    /// SCTP bind and listen.
    pub const SCTP_BIND: Self = Self(1 << 5);
    /// Any other protocol, towards an address (ICMP ping sockets, raw, DCCP). The port is 0 where there is none.
    pub const OTHER_CONNECT: Self = Self(1 << 6);
    /// Any other protocol, bind.
    pub const OTHER_BIND: Self = Self(1 << 7);

    /// Every flow with its name.
    pub const NAMES: &'static [(Self, &'static str)] = &[
        (Self::TCP_CONNECT, "tcp-connect"),
        (Self::TCP_BIND, "tcp-bind"),
        (Self::UDP_CONNECT, "udp-connect"),
        (Self::UDP_BIND, "udp-bind"),
        (Self::SCTP_CONNECT, "sctp-connect"),
        (Self::SCTP_BIND, "sctp-bind"),
        (Self::OTHER_CONNECT, "other-connect"),
        (Self::OTHER_BIND, "other-bind"),
    ];

    /// Name of a single flow.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(flow, _)| *flow == self).map_or("unknown", |(_, name)| name)
    }

    /// The flow of a socket with this IP protocol in this direction.
    #[inline(always)]
    #[must_use]
    pub const fn of(protocol: u32, direction: Direction) -> Self {
        let connect = match protocol {
            IPPROTO_TCP | IPPROTO_MPTCP => Self::TCP_CONNECT,
            IPPROTO_UDP | IPPROTO_UDPLITE => Self::UDP_CONNECT,
            IPPROTO_SCTP => Self::SCTP_CONNECT,
            _ => Self::OTHER_CONNECT,
        };
        match direction {
            Direction::Connect => connect,
            Direction::Bind => Self(connect.0 << 1),
        }
    }
}

/// Which way a flow is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards a peer.
    Connect,
    /// On a local address.
    Bind,
}

/// `AF_NETLINK`, whose protocols are kernel subsystems: each is listed on its own.
pub const AF_NETLINK: u32 = 16;
/// `AF_INET`.
pub const AF_INET: u32 = 2;
/// `AF_INET6`.
pub const AF_INET6: u32 = 10;
/// The [`socket_class`] of MPTCP, over IPv4 and IPv6: the kernel itself connects such a socket to addresses that its
/// peer announces, and nobody can judge those.
pub const MPTCP_CLASS: u32 = AF_INET | 1 << 8;
/// MPTCP's bit among the families. No kernel has that many.
pub const MPTCP_BIT: u64 = 1 << 63;

/// Whether a socket is one of MPTCP.
#[inline(always)]
#[must_use]
pub const fn is_mptcp(family: u32, protocol: u32) -> bool {
    (family == AF_INET || family == AF_INET6) && protocol == IPPROTO_MPTCP
}

/// A socket's family and, for netlink, its protocol in one number, as events and rules name it: the family below 256,
/// a netlink protocol times 256 above it, and [`MPTCP_CLASS`]. What does not fit is nothing a rule could list, and
/// becomes 255.
#[inline(always)]
#[must_use]
pub const fn socket_class(family: u32, protocol: u32) -> u32 {
    if is_mptcp(family, protocol) {
        return MPTCP_CLASS;
    }
    if family == AF_NETLINK {
        let protocol = if protocol < 255 { protocol } else { 255 };
        return family | protocol << 8;
    }
    if family < 255 { family } else { 255 }
}

/// The family and the protocol of a [`socket_class`]; 0 for those that do not count.
#[must_use]
pub const fn of_socket_class(class: u32) -> (u32, u32) {
    if class == MPTCP_CLASS {
        return (AF_INET, IPPROTO_MPTCP);
    }
    (class & 0xff, class >> 8)
}

/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const IPPROTO_UDP: u32 = 17;
/// `IPPROTO_SCTP`.
pub const IPPROTO_SCTP: u32 = 132;
/// `IPPROTO_UDPLITE`.
pub const IPPROTO_UDPLITE: u32 = 136;
/// `IPPROTO_MPTCP`.
pub const IPPROTO_MPTCP: u32 = 262;

/// The v4-mapped form of an IPv4 address given in network order. All IPv4 rules live in this form, so `::ffff:a.b.c.d`
/// is decided by IPv4 rules.
#[inline(always)]
#[must_use]
pub const fn v4_mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_classes_round_trip() {
        for (family, protocol) in [(2, 0), (16, 0), (16, 9), (16, 254), (2, IPPROTO_MPTCP)] {
            assert_eq!(of_socket_class(socket_class(family, protocol)), (family, protocol));
        }
        assert_eq!(socket_class(2, 6), 2, "TCP's protocol does not count");
        assert_eq!(socket_class(10, IPPROTO_MPTCP), MPTCP_CLASS, "over IPv6, too");
        assert_eq!(socket_class(1, IPPROTO_MPTCP), 1, "MPTCP is an IP protocol");
        assert_eq!(socket_class(16 + 256, 0), 255, "no number passes for netlink");
        assert_eq!(of_socket_class(socket_class(16, u32::MAX)), (16, 255));
    }
}
