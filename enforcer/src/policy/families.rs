//! Socket address families, and netlink's protocols, by the names that policies use.

use enforcer_common::net::{AF_NETLINK, MPTCP_BIT, MPTCP_CLASS, of_socket_class};

/// A socket address family, or one protocol of netlink, that fits the kernel-side masks: an
/// [`enforcer_common::net::socket_class`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketFamily(u16);

/// `AF_UNIX`, allowed to every policy: what its sockets may reach is decided by name.
pub const UNIX: SocketFamily = SocketFamily(1);
/// `AF_INET`.
pub const INET: SocketFamily = SocketFamily(2);
/// `AF_INET6`.
pub const INET6: SocketFamily = SocketFamily(10);

const fn netlink(protocol: u16) -> u16 {
    16 | protocol << 8
}

/// Names and `AF_*` numbers (`include/linux/socket.h`), without families that no supported kernel has; netlink by its
/// protocols (`include/uapi/linux/netlink.h`), of which `netlink` alone is the routing one; MPTCP by its class.
pub const NAMES: &[(&str, u16)] = &[
    ("unix", 1),
    ("inet", 2),
    ("mptcp", 2 | 1 << 8),
    ("ax25", 3),
    ("ipx", 4),
    ("appletalk", 5),
    ("netrom", 6),
    ("atmpvc", 8),
    ("x25", 9),
    ("inet6", 10),
    ("rose", 11),
    ("key", 15),
    ("netlink", netlink(0)),
    ("netlink-usersock", netlink(2)),
    ("netlink-sock-diag", netlink(4)),
    ("netlink-nflog", netlink(5)),
    ("netlink-xfrm", netlink(6)),
    ("netlink-selinux", netlink(7)),
    ("netlink-iscsi", netlink(8)),
    ("netlink-audit", netlink(9)),
    ("netlink-connector", netlink(11)),
    ("netlink-netfilter", netlink(12)),
    ("netlink-kobject-uevent", netlink(15)),
    ("netlink-generic", netlink(16)),
    ("netlink-scsitransport", netlink(18)),
    ("netlink-rdma", netlink(20)),
    ("netlink-crypto", netlink(21)),
    ("packet", 17),
    ("atmsvc", 20),
    ("rds", 21),
    ("pppox", 24),
    ("llc", 26),
    ("infiniband", 27),
    ("mpls", 28),
    ("can", 29),
    ("tipc", 30),
    ("bluetooth", 31),
    ("iucv", 32),
    ("rxrpc", 33),
    ("isdn", 34),
    ("phonet", 35),
    ("ieee802154", 36),
    ("caif", 37),
    ("alg", 38),
    ("nfc", 39),
    ("vsock", 40),
    ("kcm", 41),
    ("qipcrtr", 42),
    ("smc", 43),
    ("xdp", 44),
    ("mctp", 45),
];

impl SocketFamily {
    /// The family with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| Self(*number))
    }

    /// The family of this [`enforcer_common::net::socket_class`].
    #[must_use]
    pub fn from_class(class: u32) -> Option<Self> {
        NAMES.iter().find(|(_, known)| u32::from(*known) == class).map(|(_, known)| Self(*known))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, number)| *number == self.0).map_or("unknown", |(name, _)| name)
    }

    /// Its [`enforcer_common::net::socket_class`].
    #[must_use]
    pub const fn class(self) -> u32 {
        self.0 as u32
    }

    /// Its bits in [`enforcer_common::abi::Head::socket_families`]; none for netlink. MPTCP brings the families that it
    /// runs over.
    #[must_use]
    pub const fn bit(self) -> u64 {
        if self.class() == MPTCP_CLASS {
            return MPTCP_BIT | INET.bit() | INET6.bit();
        }
        let (family, _) = of_socket_class(self.class());
        if family == AF_NETLINK { 0 } else { 1 << family }
    }

    /// Its bit in [`enforcer_common::abi::Head::netlink`]; none for other families.
    #[must_use]
    pub const fn netlink_bit(self) -> u32 {
        let (family, protocol) = of_socket_class(self.class());
        if family == AF_NETLINK { 1 << protocol } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_the_mask_and_are_unique() {
        for (name, number) in NAMES {
            let family = SocketFamily::from_class(u32::from(*number)).unwrap();
            assert_eq!((family.bit() != 0) as u32 + (family.netlink_bit() != 0) as u32, 1, "{name}");
            assert_eq!(SocketFamily::from_name(name).map(SocketFamily::name), Some(*name));
            assert_eq!(NAMES.iter().filter(|(_, other)| other == number).count(), 1, "{name}");
        }
        assert_eq!(SocketFamily::from_name("netlink").map(SocketFamily::netlink_bit), Some(1));
        let mptcp = SocketFamily::from_name("mptcp").map(SocketFamily::bit);
        assert_eq!(mptcp, Some(1 << 63 | 1 << 10 | 1 << 2));
        assert_eq!([UNIX.name(), INET.name(), INET6.name()], ["unix", "inet", "inet6"]);
    }
}
