//! Addresses: how rules are written, and how they become prefixes with port ranges.
//!
//! The kernel looks up one prefix, the longest, and then one port range in its list. So each prefix's list holds
//! what every shorter prefix around it allows, too, cut into disjoint ranges.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    str::FromStr,
};

use enforcer_common::{
    abi::PortRange,
    net::{Direction, Flow, v4_mapped},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What may be reached, or bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressRule {
    /// Transports.
    pub protocol: Protocol,
    /// Addresses.
    pub host: Host,
    /// Ports, both ends included.
    pub ports: RangeInclusive<u16>,
}

/// A transport, as rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP and MPTCP.
    Tcp,
    /// UDP and UDP-Lite.
    Udp,
    /// SCTP.
    Sctp,
    /// Everything else that runs on IP.
    Other,
    /// All of them.
    Any,
}

/// Addresses, as rules name them. Each family stands for itself: `0.0.0.0/0` is no IPv6 address, and `::/0` no IPv4
/// address, not even one that an IPv6 socket sees as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Every address of both families.
    Any,
    /// IPv4 addresses.
    V4(Ipv4Net),
    /// IPv6 addresses that are not v4-mapped.
    V6(Ipv6Net),
}

impl Protocol {
    /// Every protocol and its name.
    pub const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Tcp, "tcp"),
        (Self::Udp, "udp"),
        (Self::Sctp, "sctp"),
        (Self::Other, "other"),
        (Self::Any, "any"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(protocol, _)| *protocol == self).map_or("any", |(_, name)| name)
    }

    /// The protocol with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(protocol, _)| *protocol)
    }

    /// The flows it stands for in one direction.
    #[must_use]
    pub const fn flows(self, direction: Direction) -> Flow {
        let connect = match self {
            Self::Tcp => Flow::TCP_CONNECT.0,
            Self::Udp => Flow::UDP_CONNECT.0,
            Self::Sctp => Flow::SCTP_CONNECT.0,
            Self::Other => Flow::OTHER_CONNECT.0,
            Self::Any => {
                Flow::TCP_CONNECT.0 | Flow::UDP_CONNECT.0 | Flow::SCTP_CONNECT.0 | Flow::OTHER_CONNECT.0
            }
        };
        match direction {
            Direction::Connect => Flow(connect),
            Direction::Bind => Flow(connect << 1),
        }
    }

    /// The protocol and direction of a single flow.
    #[must_use]
    pub fn of_flow(flow: Flow) -> Option<(Self, Direction)> {
        [Self::Tcp, Self::Udp, Self::Sctp, Self::Other].into_iter().find_map(|protocol| {
            let direction = [Direction::Connect, Direction::Bind];
            direction
                .into_iter()
                .find(|direction| protocol.flows(*direction) == flow)
                .map(|it| (protocol, it))
        })
    }
}

/// Why a text is no address rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The first word.
    #[error("a network rule starts with a protocol")]
    NoProtocol {
        /// The rule as it may have been meant.
        corrected: String,
    },
    /// The first word, when there is a second.
    #[error("`{0}` is not a protocol")]
    UnknownProtocol(String),
    /// Nothing after the protocol, or more than one word.
    #[error("after the protocol stands one address with a port")]
    NotOneAddress,
    /// No `:port`.
    #[error("the port is missing")]
    NoPort {
        /// The rule as it may have been meant.
        corrected: String,
    },
    /// An IPv6 address without brackets.
    #[error("an IPv6 address stands in brackets, so that its port can be told apart")]
    NoBrackets {
        /// The rule as it may have been meant.
        corrected: String,
    },
    /// A host name.
    #[error("`{0}` is not an address")]
    HostName(String),
    /// An address that is none.
    #[error("`{0}` is not an IP address or prefix")]
    BadHost(String),
    /// Bits below the prefix length.
    #[error("`{given}` has bits set below its prefix length")]
    HostBits {
        /// What was written.
        given: String,
        /// The network.
        corrected: String,
    },
    /// A port that is none.
    #[error("`{0}` is not a port, a range of ports or `*`")]
    BadPort(String),
    /// A range of ports that is empty.
    #[error("the port range {0}-{1} is empty")]
    BackwardPorts(u16, u16),
}

impl AddressError {
    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NoProtocol { corrected } | Self::NoPort { corrected } | Self::NoBrackets { corrected } => {
                format!("write \"{corrected}\"")
            }
            Self::UnknownProtocol(_) => {
                "write `tcp`, `udp`, `sctp`, `other` (any other IP protocol), `any`, or `unix` and a path"
                    .into()
            }
            Self::NotOneAddress => "write e.g. \"tcp 10.0.0.0/8:443\"".into(),
            Self::HostName(name) if name == "localhost" => {
                "write its addresses, as two rules: `127.0.0.1` and `[::1]`".into()
            }
            Self::HostName(_) => "the kernel sees addresses only: write the address or prefix".into(),
            Self::BadHost(_) => {
                "write `10.0.0.0/8`, `10.1.2.3`, `[2001:db8::/32]`, `[::1]`, or `*` for any address".into()
            }
            Self::HostBits { corrected, .. } => {
                format!(
                    "write `{corrected}` for the network, or leave the prefix length out for the one address"
                )
            }
            Self::BadPort(_) => "write e.g. `443`, `8000-8010`, or `*` for any port".into(),
            Self::BackwardPorts(low, high) => format!("write `{high}-{low}`"),
        }
    }
}

impl FromStr for AddressRule {
    type Err = AddressError;

    /// Reads `protocol host:port`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut words = text.split_whitespace();
        let first = words.next().unwrap_or_default();
        let Some(protocol) = Protocol::from_name(first) else {
            return Err(not_a_protocol(first, words.next()));
        };
        let (Some(rest), None) = (words.next(), words.next()) else {
            return Err(AddressError::NotOneAddress);
        };
        let (host, port) = split(protocol, rest)?;
        Ok(Self { protocol, host: host.parse()?, ports: ports(port)? })
    }
}

fn not_a_protocol(first: &str, second: Option<&str>) -> AddressError {
    let lower = first.to_ascii_lowercase();
    let known = Protocol::from_name(lower.trim_end_matches(['4', '6', ':']));
    match (known, second) {
        (Some(protocol), Some(rest)) => {
            AddressError::NoProtocol { corrected: format!("{} {rest}", protocol.name()) }
        }
        // `tcp://10.0.0.1:443`, `tcp:10.0.0.1:443`
        _ if lower.split_once(':').is_some_and(|(word, _)| Protocol::from_name(word).is_some()) => {
            let (word, rest) = lower.split_once(':').unwrap_or_default();
            AddressError::NoProtocol { corrected: format!("{word} {}", rest.trim_matches('/')) }
        }
        (None, Some(_)) => AddressError::UnknownProtocol(first.to_owned()),
        _ => {
            let rest = if first.is_empty() { "10.0.0.0/8:443" } else { first };
            AddressError::NoProtocol { corrected: format!("tcp {rest}") }
        }
    }
}

/// Splits `host:port`.
fn split(protocol: Protocol, text: &str) -> Result<(&str, &str), AddressError> {
    let missing = || {
        let port = if protocol == Protocol::Other { "0" } else { "443" };
        AddressError::NoPort { corrected: format!("{} {text}:{port}", protocol.name()) }
    };
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or_else(|| AddressError::BadHost(text.to_owned()))?;
        // `[2001:db8::]/32` is a common slip.
        if let Some((length, port)) =
            rest.strip_prefix('/').map(|rest| rest.split_once(':').unwrap_or((rest, "443")))
        {
            let corrected = format!("{} [{host}/{length}]:{port}", protocol.name());
            return Err(AddressError::NoBrackets { corrected });
        }
        let port = rest.strip_prefix(':').ok_or_else(missing)?;
        return match host.split('/').next().map(Ipv6Addr::from_str) {
            Some(Ok(_)) => Ok((host, port)),
            _ => Err(AddressError::BadHost(format!("[{host}]"))),
        };
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(missing)?;
    if host.contains(':') {
        // `::1:443` reads both ways; a rule needs a port, so that is what the end most likely is.
        let is_whole = |text: &str| text.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Net>().is_ok();
        let (host, port) = if is_whole(host) || !is_whole(text) { (host, port) } else { (text, "443") };
        return Err(AddressError::NoBrackets { corrected: format!("{} [{host}]:{port}", protocol.name()) });
    }
    Ok((host, port))
}

impl FromStr for Host {
    type Err = AddressError;

    /// Reads `*`, an address, or a prefix; IPv6 without its brackets.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let bad = || {
            let is_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains([':', '/', '*']);
            let make = if is_name { AddressError::HostName } else { AddressError::BadHost };
            make(text.to_owned())
        };
        let net = match IpNet::from_str(text) {
            Ok(net) => net,
            Err(_) => IpNet::from(IpAddr::from_str(text).map_err(|_| bad())?),
        };
        if net.trunc() != net {
            return Err(AddressError::HostBits {
                given: text.to_owned(),
                corrected: net.trunc().to_string(),
            });
        }
        Ok(match net {
            IpNet::V4(net) => Self::V4(net),
            IpNet::V6(net) => unmapped(net).map_or(Self::V6(net), Self::V4),
        })
    }
}

/// The IPv4 prefix that a v4-mapped IPv6 prefix stands for.
fn unmapped(net: Ipv6Net) -> Option<Ipv4Net> {
    let address: Ipv4Addr = net.addr().to_ipv4_mapped()?;
    Ipv4Net::new(address, net.prefix_len().checked_sub(MAPPED_BITS)?).ok()
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, AddressError> {
    if text == "*" {
        return Ok(0..=u16::MAX);
    }
    let port = |word: &str| {
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        word.parse::<u16>().ok().filter(|_| digits).ok_or_else(|| AddressError::BadPort(text.to_owned()))
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (port(low)?, port(high)?);
    if low > high { Err(AddressError::BackwardPorts(low, high)) } else { Ok(low..=high) }
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:", self.protocol.name(), self.host)?;
        match (*self.ports.start(), *self.ports.end()) {
            (0, u16::MAX) => f.write_str("*"),
            (low, high) if low == high => write!(f, "{low}"),
            (low, high) => write!(f, "{low}-{high}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::V4(net) if net.prefix_len() == 32 => write!(f, "{}", net.addr()),
            Self::V4(net) => write!(f, "{net}"),
            Self::V6(net) if net.prefix_len() == 128 => write!(f, "[{}]", net.addr()),
            Self::V6(net) => write!(f, "[{net}]"),
        }
    }
}

/// Bits of `::ffff:0:0/96`, under which IPv4 lives.
const MAPPED_BITS: u8 = 96;

/// An address as the kernel side looks it up.
#[must_use]
pub fn key_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => v4_mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address of a key, IPv4 where it is v4-mapped.
#[must_use]
pub fn address_of(key: [u8; 16]) -> IpAddr {
    IpAddr::from(key).to_canonical()
}

/// A prefix: address and its length in bits.
pub type Prefix = ([u8; 16], u8);

/// Where an address rule applies.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Addresses.
    pub host: Host,
    /// Ports.
    pub ports: RangeInclusive<u16>,
    /// What is allowed.
    pub flows: Flow,
    /// Index of the rule.
    pub rule: u32,
}

/// The folded lists are larger than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network rules need more than {limit} port ranges")]
pub struct TooManyPorts {
    /// The limit.
    pub limit: usize,
    /// The rule at whose prefix it happened.
    pub rule: u32,
}

/// Most port ranges that one policy's network rules may fold to. Without rules for hundreds of ports on short
/// prefixes above hundreds of long ones, nobody comes near.
pub const MAX_PORT_RANGES: usize = 1 << 20;

/// The table of prefixes, each with everything that holds for its addresses.
///
/// # Errors
/// [`TooManyPorts`] beyond [`MAX_PORT_RANGES`].
pub fn fold(rules: &[Reach]) -> Result<BTreeMap<Prefix, Vec<PortRange>>, TooManyPorts> {
    let mut own: BTreeMap<Prefix, Vec<&Reach>> = BTreeMap::new();
    for rule in rules {
        own.entry(prefix_of(&rule.host)).or_default().push(rule);
    }
    // IPv4 is not part of the IPv6 prefixes around it: it starts afresh, with what holds for any address.
    let wide = |host: &Host| matches!(host, Host::V6(net) if net.contains(&MAPPED_NET));
    if rules.iter().any(|rule| wide(&rule.host)) {
        own.entry(MAPPED).or_default();
    }
    let any: Vec<&Reach> = rules.iter().filter(|rule| rule.host == Host::Any).collect();

    let mut table: BTreeMap<Prefix, Vec<PortRange>> = BTreeMap::new();
    let mut around: Vec<(Prefix, Vec<PortRange>)> = Vec::new();
    let mut total = 0;
    // In order of address and then length, so whatever covers a prefix comes before it.
    for (prefix, rules) in own {
        while around.pop_if(|(outer, _)| !covers(*outer, prefix)).is_some() {}
        let inherited = match around.last() {
            _ if prefix == MAPPED => disjoint(&any, &[]),
            Some((_, ranges)) => ranges.clone(),
            None => Vec::new(),
        };
        let ranges = disjoint(&rules, &inherited);
        // Counted even where nothing is stored: it also bounds the time this takes.
        total += ranges.len();
        if total > MAX_PORT_RANGES {
            let rule = rules.first().map_or(0, |rule| rule.rule);
            return Err(TooManyPorts { limit: MAX_PORT_RANGES, rule });
        }
        let outer = around.last().map_or(&[][..], |(_, ranges)| ranges);
        if ranges != outer {
            table.insert(prefix, ranges.clone());
        }
        around.push((prefix, ranges));
    }
    Ok(table)
}

const MAPPED_NET: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), MAPPED_BITS);
const MAPPED: Prefix = (v4_mapped([0; 4]), MAPPED_BITS);

fn prefix_of(host: &Host) -> Prefix {
    match host {
        Host::Any => ([0; 16], 0),
        Host::V4(net) => (v4_mapped(net.addr().octets()), net.prefix_len() + MAPPED_BITS),
        Host::V6(net) => (net.addr().octets(), net.prefix_len()),
    }
}

/// Whether every address of `inner` is one of `outer`.
#[must_use]
pub fn covers(outer: Prefix, inner: Prefix) -> bool {
    let differing = (u128::from_be_bytes(outer.0) ^ u128::from_be_bytes(inner.0)).leading_zeros();
    outer.1 <= inner.1 && differing >= u32::from(outer.1)
}

/// Cuts rules and already disjoint ranges into disjoint ranges, each allowing what all of them around it allow.
fn disjoint(rules: &[&Reach], ranges: &[PortRange]) -> Vec<PortRange> {
    struct Piece {
        low: u32,
        past: u32,
        flows: u32,
        rule: u32,
    }
    let own = rules.iter().map(|rule| Piece {
        low: (*rule.ports.start()).into(),
        past: u32::from(*rule.ports.end()) + 1,
        flows: rule.flows.0,
        rule: rule.rule,
    });
    let outer = ranges.iter().map(|range| Piece {
        low: range.low.into(),
        past: u32::from(range.high) + 1,
        flows: range.flows,
        rule: range.rule,
    });
    let pieces: Vec<Piece> = own.chain(outer).collect();

    // A sweep over the ports: at each cut some pieces begin or end.
    let mut cuts: Vec<(u32, bool, usize)> = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        cuts.extend([(piece.low, true, at), (piece.past, false, at)]);
    }
    cuts.sort_unstable();
    let mut open = Open::default();
    let mut result: Vec<PortRange> = Vec::new();
    let mut low = 0;
    for (port, begins, at) in cuts {
        if port > low
            && let Some((flows, rule)) = open.sum()
        {
            push(&mut result, low, port - 1, flows, rule);
        }
        low = port;
        open.change(pieces[at].flows, pieces[at].rule, begins);
    }
    result
}

/// Pieces that the sweep is inside of.
#[derive(Default)]
struct Open {
    /// How many allow each flow.
    flows: [u32; 32],
    /// How many stem from each rule.
    rules: BTreeMap<u32, u32>,
}

impl Open {
    fn change(&mut self, flows: u32, rule: u32, begins: bool) {
        let step = |count: &mut u32| *count = if begins { *count + 1 } else { count.saturating_sub(1) };
        (0..32usize).filter(|bit| flows >> bit & 1 != 0).for_each(|bit| step(&mut self.flows[bit]));
        let count = self.rules.entry(rule).or_default();
        step(count);
        if *count == 0 {
            self.rules.remove(&rule);
        }
    }

    fn sum(&self) -> Option<(u32, u32)> {
        let open = self.flows.iter().enumerate().filter(|(_, count)| **count > 0);
        let flows = open.fold(0, |flows, (bit, _)| flows | 1 << bit);
        self.rules.keys().next().map(|rule| (flows, *rule))
    }
}

fn push(ranges: &mut Vec<PortRange>, low: u32, high: u32, flows: u32, rule: u32) {
    let port = |port: u32| u16::try_from(port).unwrap_or(u16::MAX);
    match ranges.last_mut() {
        Some(last) if last.flows == flows && last.rule == rule && u32::from(last.high) + 1 == low => {
            last.high = port(high);
        }
        _ => ranges.push(PortRange { low: port(low), high: port(high), flows, rule, reserved: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_rules() {
        let table = [
            ("tcp 10.0.0.0/8:443", "tcp 10.0.0.0/8:443"),
            ("udp 10.0.0.53:53", "udp 10.0.0.53:53"),
            ("  tcp   [2001:db8::/32]:8000-8010 ", "tcp [2001:db8::/32]:8000-8010"),
            ("tcp [::1]:1", "tcp [::1]:1"),
            ("tcp *:443", "tcp *:443"),
            ("any 10.1.2.3:*", "any 10.1.2.3:*"),
            ("any 10.1.2.3:0-65535", "any 10.1.2.3:*"),
            ("other 1.2.3.4:0", "other 1.2.3.4:0"),
            ("sctp 0.0.0.0/0:5-5", "sctp 0.0.0.0/0:5"),
            ("tcp [::ffff:10.0.0.1]:80", "tcp 10.0.0.1:80"),
            ("tcp [::ffff:10.0.0.0/104]:80", "tcp 10.0.0.0/8:80"),
            ("tcp [::ffff:0:0/96]:80", "tcp 0.0.0.0/0:80"),
        ];
        for (text, canonical) in table {
            assert_eq!(
                text.parse::<AddressRule>().map(|rule| rule.to_string()).as_deref(),
                Ok(canonical),
                "{text}"
            );
        }
    }

    #[test]
    fn invalid_rules_come_with_a_correction() {
        let table = [
            ("", "a network rule starts with a protocol", "write \"tcp 10.0.0.0/8:443\""),
            ("10.0.0.1:443", "a network rule starts with a protocol", "write \"tcp 10.0.0.1:443\""),
            ("tcp://10.0.0.1:443", "a network rule starts with a protocol", "write \"tcp 10.0.0.1:443\""),
            ("TCP 10.0.0.1:443", "a network rule starts with a protocol", "write \"tcp 10.0.0.1:443\""),
            ("tcp6 [::1]:443", "a network rule starts with a protocol", "write \"tcp [::1]:443\""),
            (
                "icmp 10.0.0.1:443",
                "`icmp` is not a protocol",
                "write `tcp`, `udp`, `sctp`, `other` (any other IP protocol), `any`, or `unix` and a path",
            ),
            ("tcp", "after the protocol stands one address with a port", "write e.g. \"tcp 10.0.0.0/8:443\""),
            (
                "tcp 10.0.0.1 443",
                "after the protocol stands one address with a port",
                "write e.g. \"tcp 10.0.0.0/8:443\"",
            ),
            ("tcp 10.0.0.1", "the port is missing", "write \"tcp 10.0.0.1:443\""),
            ("other 10.0.0.1", "the port is missing", "write \"other 10.0.0.1:0\""),
            (
                "tcp ::1:443",
                "an IPv6 address stands in brackets, so that its port can be told apart",
                "write \"tcp [::1]:443\"",
            ),
            (
                "tcp 2001:db8::/32:443",
                "an IPv6 address stands in brackets, so that its port can be told apart",
                "write \"tcp [2001:db8::/32]:443\"",
            ),
            (
                "tcp [2001:db8::]/32:443",
                "an IPv6 address stands in brackets, so that its port can be told apart",
                "write \"tcp [2001:db8::/32]:443\"",
            ),
            (
                "tcp localhost:80",
                "`localhost` is not an address",
                "write its addresses, as two rules: `127.0.0.1` and `[::1]`",
            ),
            (
                "tcp example.org:80",
                "`example.org` is not an address",
                "the kernel sees addresses only: write the address or prefix",
            ),
            (
                "tcp 10.0.0.256:80",
                "`10.0.0.256` is not an IP address or prefix",
                "write `10.0.0.0/8`, `10.1.2.3`, `[2001:db8::/32]`, `[::1]`, or `*` for any address",
            ),
            (
                "tcp [10.0.0.1]:80",
                "`[10.0.0.1]` is not an IP address or prefix",
                "write `10.0.0.0/8`, `10.1.2.3`, `[2001:db8::/32]`, `[::1]`, or `*` for any address",
            ),
            (
                "tcp 10.1.2.3/8:80",
                "`10.1.2.3/8` has bits set below its prefix length",
                "write `10.0.0.0/8` for the network, or leave the prefix length out for the one address",
            ),
            (
                "tcp [2001:db8::1/32]:80",
                "`2001:db8::1/32` has bits set below its prefix length",
                "write `2001:db8::/32` for the network, or leave the prefix length out for the one address",
            ),
            (
                "tcp *:http",
                "`http` is not a port, a range of ports or `*`",
                "write e.g. `443`, `8000-8010`, or `*` for any port",
            ),
            (
                "tcp *:65536",
                "`65536` is not a port, a range of ports or `*`",
                "write e.g. `443`, `8000-8010`, or `*` for any port",
            ),
            (
                "tcp *:+80",
                "`+80` is not a port, a range of ports or `*`",
                "write e.g. `443`, `8000-8010`, or `*` for any port",
            ),
            ("tcp *:90-80", "the port range 90-80 is empty", "write `80-90`"),
        ];
        for (text, message, help) in table {
            let error = text.parse::<AddressRule>().expect_err(text);
            assert_eq!((error.to_string().as_str(), error.help().as_str()), (message, help), "{text}");
        }
    }

    fn reach(rules: &[&str]) -> Vec<Reach> {
        (0..)
            .zip(rules)
            .map(|(rule, text)| {
                let it: AddressRule = text.parse().expect(text);
                Reach { host: it.host, ports: it.ports, flows: it.protocol.flows(Direction::Connect), rule }
            })
            .collect()
    }

    /// Low, high, flows, rule.
    type Range = (u16, u16, u32, u32);

    fn folded(rules: &[&str]) -> Vec<(String, Vec<Range>)> {
        let table = fold(&reach(rules)).unwrap();
        let ranges =
            |list: &[PortRange]| list.iter().map(|it| (it.low, it.high, it.flows, it.rule)).collect();
        table
            .iter()
            .map(|((address, length), list)| (format!("{}/{length}", Ipv6Addr::from(*address)), ranges(list)))
            .collect()
    }

    #[test]
    fn covering_prefixes_are_folded_in() {
        let tcp = Flow::TCP_CONNECT.0;
        let both = tcp | Flow::UDP_CONNECT.0;
        assert_eq!(
            folded(&["tcp 10.0.0.0/8:80-100", "udp 10.1.0.0/16:90-110", "tcp *:443"]),
            [
                ("::/0".into(), vec![(443, 443, tcp, 2)]),
                ("::ffff:10.0.0.0/104".into(), vec![(80, 100, tcp, 0), (443, 443, tcp, 2)]),
                (
                    "::ffff:10.1.0.0/112".into(),
                    vec![
                        (80, 89, tcp, 0),
                        (90, 100, both, 0),
                        (101, 110, both & !tcp, 1),
                        (443, 443, tcp, 2)
                    ]
                ),
            ]
        );
    }

    #[test]
    fn families_do_not_leak_into_each_other() {
        let tcp = Flow::TCP_CONNECT.0;
        assert_eq!(
            folded(&["tcp [::/0]:80", "tcp 10.0.0.0/8:81", "tcp *:82"]),
            [
                ("::/0".into(), vec![(80, 80, tcp, 0), (82, 82, tcp, 2)]),
                ("::ffff:0.0.0.0/96".into(), vec![(82, 82, tcp, 2)]),
                ("::ffff:10.0.0.0/104".into(), vec![(81, 81, tcp, 1), (82, 82, tcp, 2)]),
            ]
        );
        // Nothing for IPv4 is an entry of its own, too.
        assert_eq!(folded(&["tcp [::/0]:80"])[1], ("::ffff:0.0.0.0/96".into(), vec![]));
    }

    #[test]
    fn what_adds_nothing_takes_no_room() {
        assert_eq!(folded(&["tcp *:443", "tcp 10.0.0.0/8:443", "tcp 10.1.0.0/16:443"]).len(), 1);
        assert_eq!(folded(&["tcp *:1-10", "tcp *:11-20"]).len(), 1);
        assert_eq!(folded(&["any *:*"])[0].1, [(0, u16::MAX, 0b0101_0101, 0)]);
    }

    #[test]
    fn a_flood_of_ranges_is_refused() {
        let wide = (0..2000u32).map(|port| format!("tcp *:{}", port * 3));
        let narrow = (0..2000u32).map(|net| format!("tcp 10.{}.{}.0/24:7", net / 256, net % 256));
        let rules: Vec<String> = wide.chain(narrow).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        assert!(fold(&reach(&rules)).is_err());
    }
}
