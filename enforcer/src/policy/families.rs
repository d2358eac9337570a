//! Socket address families by the names that policies use.

/// A socket address family that fits the kernel-side mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketFamily(u8);

/// `AF_UNIX`, allowed to every policy: what its sockets may reach is decided by name.
pub const UNIX: SocketFamily = SocketFamily(1);
/// `AF_INET`.
pub const INET: SocketFamily = SocketFamily(2);
/// `AF_INET6`.
pub const INET6: SocketFamily = SocketFamily(10);

/// Names and `AF_*` numbers (`include/linux/socket.h`), without families that no supported kernel has.
pub const NAMES: &[(&str, u8)] = &[
    ("unix", 1),
    ("inet", 2),
    ("ax25", 3),
    ("ipx", 4),
    ("appletalk", 5),
    ("netrom", 6),
    ("atmpvc", 8),
    ("x25", 9),
    ("inet6", 10),
    ("rose", 11),
    ("key", 15),
    ("netlink", 16),
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

    /// The family with this `AF_*` number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        NAMES.iter().find(|(_, known)| u32::from(*known) == number).map(|(_, known)| Self(*known))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, number)| *number == self.0).map_or("unknown", |(name, _)| name)
    }

    /// Its `AF_*` number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Its bit in [`enforcer_common::abi::Head::socket_families`].
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_the_mask_and_are_unique() {
        for (name, number) in NAMES {
            assert!(*number < 64);
            assert_eq!(SocketFamily::from_name(name).map(SocketFamily::name), Some(*name));
            assert_eq!(NAMES.iter().filter(|(_, other)| other == number).count(), 1, "{name}");
        }
        assert_eq!([UNIX.name(), INET.name(), INET6.name()], ["unix", "inet", "inet6"]);
    }
}
