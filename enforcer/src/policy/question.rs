//! What one may ask of a policy: a request that owns its parts, read from a line of text or from an event.

use std::{fmt, net::IpAddr, str::FromStr as _};

use enforcer_common::{
    decide::{Bytes, Request},
    hook::Privilege,
    net::{Direction, Flow, of_socket_class},
    rights::Rights,
    verdict::{Family, Reason},
};
use serde_json::Value;

use super::{
    digest::{DigestError, Known, PREFIX, fsverity},
    families::{self, SocketFamily},
    net::{AddressRule, Host, Protocol, address_of, key_of},
};

/// Stands before an fs-verity digest.
const VERITY: &str = "fsverity=";

/// A request to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Rights on a named object.
    Object {
        /// Path, or `@` and an abstract name, or an interpreter's option, or `$` and a variable.
        name: Vec<u8>,
        /// Rights that must all be granted.
        needed: Rights,
    },
    /// Starting a program that holds this.
    Content {
        /// Path.
        name: Vec<u8>,
        /// What is known of it.
        known: Known,
    },
    /// Rights on a file without a name.
    Unnamed {
        /// What its dentry is called.
        name: Vec<u8>,
        /// [`Reason::Unlinked`] or [`Reason::Unreachable`].
        why: Reason,
        /// Rights that must all be granted.
        needed: Rights,
    },
    /// Executable memory that no file backs.
    AnonymousExec,
    /// A transport address.
    Address {
        /// The address.
        address: IpAddr,
        /// Its port.
        port: u16,
        /// What is done with it.
        flow: Flow,
    },
    /// `socket(2)`.
    Socket {
        /// `AF_*`.
        family: u32,
        /// A raw or packet socket.
        raw: bool,
    },
    /// A privileged door.
    Privilege(Privilege),
}

/// Why a text or an event is no question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The first word of a line.
    #[error("`{word}` is not a kind of request: there are {}", kinds())]
    UnknownKind {
        /// What was found.
        word: String,
    },
    /// A right that does not exist.
    #[error("`{0}` is not a right")]
    UnknownRight(String),
    /// A word that does not exist.
    #[error("there is no {what} `{word}`")]
    UnknownWord {
        /// What was expected.
        what: &'static str,
        /// What was found.
        word: String,
    },
    /// Nothing after the kind.
    #[error("`{0}` of what? Nothing follows it")]
    NoObject(String),
    /// A name that the kernel never sees.
    #[error(
        "`{0}` is neither an absolute path, nor an abstract socket's `@name`, nor an option, nor a `$VARIABLE`"
    )]
    BadName(String),
    /// An address that is none, or many.
    #[error("`{0}` is not one address with one port, e.g. `tcp 10.0.0.1:443`")]
    BadAddress(String),
    /// A content of which nothing is said.
    #[error("a digest stands between `content` and the path")]
    NoDigest,
    /// A digest that is none.
    #[error(transparent)]
    BadDigest(#[from] DigestError),
    /// An event without a field.
    #[error("the event has no usable `{0}`")]
    Field(&'static str),
    /// An event that is not JSON.
    #[error("not JSON: {0}")]
    Json(String),
}

impl Question {
    /// Rights on a name.
    ///
    /// # Errors
    /// [`QuestionError::BadName`] for what is neither an absolute path, nor an abstract name, nor an option, nor a
    /// variable.
    pub fn object(name: impl Into<Vec<u8>>, needed: Rights) -> Result<Self, QuestionError> {
        let name = name.into();
        match name.first() {
            Some(b'/' | b'@' | b'-' | b'$') => Ok(Self::Object { name, needed }),
            _ => Err(QuestionError::BadName(String::from_utf8_lossy(&name).into_owned())),
        }
    }

    /// Starting a program that holds this.
    ///
    /// # Errors
    /// [`QuestionError::BadName`] for what is no absolute path.
    pub fn content(name: impl Into<Vec<u8>>, known: Known) -> Result<Self, QuestionError> {
        let name = name.into();
        match name.first() {
            Some(b'/') => Ok(Self::Content { name, known }),
            _ => Err(QuestionError::BadName(String::from_utf8_lossy(&name).into_owned())),
        }
    }

    /// An address as rules write it, `tcp 10.0.0.1:443`, or `unix` and a name.
    ///
    /// # Errors
    /// [`QuestionError`] for what is not one address.
    pub fn address(text: &str, direction: Direction) -> Result<Self, QuestionError> {
        if let Some(name) = text.trim_start().strip_prefix("unix ") {
            return Self::object(name.trim(), unix_right(direction));
        }
        let bad = || QuestionError::BadAddress(text.to_owned());
        let rule = AddressRule::from_str(text).map_err(|_| bad())?;
        let address = match rule.host {
            Host::V4(net) if net.prefix_len() == 32 => IpAddr::from(net.addr()),
            Host::V6(net) if net.prefix_len() == 128 => IpAddr::from(net.addr()),
            _ => return Err(bad()),
        };
        if rule.protocol == Protocol::Any || rule.ports.start() != rule.ports.end() {
            return Err(bad());
        }
        Ok(Self::Address { address, port: *rule.ports.start(), flow: rule.protocol.flows(direction) })
    }

    /// Reads a line: a kind and what it is about, e.g. `read /etc/passwd`, `exec+write /x`, `connect tcp 10.0.0.1:443`,
    /// `privilege mount`, `socket netlink raw`, `anonymous-exec`, `unlinked read`, `content SHA256 /usr/bin/x`,
    /// `content fsverity=sha256:DIGEST /usr/bin/x`; both digests, if both are known.
    ///
    /// # Errors
    /// [`QuestionError`] for other lines.
    pub fn from_line(line: &[u8]) -> Result<Self, QuestionError> {
        let (kind, rest) = match line.iter().position(|byte| *byte == b' ') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let kind = String::from_utf8_lossy(kind);
        if kind == "anonymous-exec" {
            return Ok(Self::AnonymousExec);
        }
        if rest.is_empty() && !kind.is_empty() {
            return Err(QuestionError::NoObject(kind.into_owned()));
        }
        let text = String::from_utf8_lossy(rest);
        match &*kind {
            "connect" => Self::address(&text, Direction::Connect),
            "bind" => Self::address(&text, Direction::Bind),
            "privilege" => privilege(text.trim()),
            "socket" => {
                let (family, kind) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
                let raw = match kind.trim() {
                    "" => false,
                    "raw" => true,
                    word => {
                        return Err(QuestionError::UnknownWord {
                            what: "socket type",
                            word: word.to_owned(),
                        });
                    }
                };
                Ok(Self::Socket { family: socket_family(family)?, raw })
            }
            "content" => {
                let (mut known, mut rest) = (Known::default(), rest);
                // Digests first: none starts like a path.
                while !rest.starts_with(b"/") {
                    let at = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
                    let word = String::from_utf8_lossy(&rest[..at]).into_owned();
                    rest = rest.get(at + 1..).unwrap_or_default();
                    match word.strip_prefix(VERITY) {
                        Some(digest) => known.fsverity = Some(fsverity(digest)?),
                        None => known.sha256 = Some(word.parse()?),
                    }
                }
                if known.is_nothing() {
                    return Err(QuestionError::NoDigest);
                }
                Self::content(rest, known)
            }
            "unlinked" => {
                Ok(Self::Unnamed { name: Vec::new(), why: Reason::Unlinked, needed: rights(text.trim())? })
            }
            _ => match rights(&kind) {
                Ok(needed) => Self::object(rest, needed),
                Err(_) => Err(QuestionError::UnknownKind { word: kind.into_owned() }),
            },
        }
    }

    /// Reads an event as the daemon writes it, by the fields that say what was asked; all others are ignored.
    ///
    /// # Errors
    /// [`QuestionError::Field`] when one of those is missing.
    pub fn from_event(event: &Value) -> Result<Self, QuestionError> {
        let object = event.get("object").filter(|object| object.is_object()).unwrap_or(event);
        let field = |name: &'static str| object.get(name).or_else(|| event.get(name));
        let text = |name: &'static str| field(name).and_then(Value::as_str);
        let needed = || event_rights(field("needed"));
        let name = || text("path").or_else(|| text("name")).ok_or(QuestionError::Field("object.path"));
        match text("kind").ok_or(QuestionError::Field("object.kind"))? {
            "name" | "path" | "file" | "unix" | "argument" | "variable" => {
                let known = Known {
                    sha256: text("sha256").map(str::parse).transpose()?,
                    fsverity: text("fsverity").map(fsverity).transpose()?,
                };
                if known.is_nothing() {
                    Self::object(name()?, needed()?)
                } else {
                    Self::content(name()?, known)
                }
            }
            "unnamed" => {
                let why =
                    text("reason").and_then(Reason::from_name).filter(|why| *why == Reason::Unreachable);
                let name = name().unwrap_or_default().into();
                Ok(Self::Unnamed { name, why: why.unwrap_or(Reason::Unlinked), needed: needed()? })
            }
            "memory" => Ok(Self::AnonymousExec),
            "address" => {
                let address = text("address").unwrap_or_default().trim_matches(['[', ']']);
                let address =
                    IpAddr::from_str(address).map_err(|_| QuestionError::Field("object.address"))?;
                let port = field("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
                let flow = event_flow(event, object).ok_or(QuestionError::Field("object.protocol"))?;
                Ok(Self::Address { address, port: port.ok_or(QuestionError::Field("object.port"))?, flow })
            }
            "socket" => {
                // `family` at the top of an event is the group of operations.
                let family = object.get("family").or_else(|| object.get("socket_family"));
                let family = match family.ok_or(QuestionError::Field("object.family"))? {
                    Value::String(name) => socket_family(name)?,
                    number => number
                        .as_u64()
                        .and_then(|it| u32::try_from(it).ok())
                        .ok_or(QuestionError::Field("object.family"))?,
                };
                let kind = field("type").or_else(|| field("socket_type"));
                let raw = field("raw").and_then(Value::as_bool);
                let raw = raw.unwrap_or_else(|| kind.is_some_and(|kind| is_raw(family, kind)));
                Ok(Self::Socket { family, raw })
            }
            "privilege" => privilege(
                text("privilege").or_else(|| text("name")).ok_or(QuestionError::Field("object.privilege"))?,
            ),
            other => Err(QuestionError::UnknownWord { what: "kind of object", word: other.to_owned() }),
        }
    }

    /// Hands it over in the form that the decision takes.
    pub fn with_request<T>(&self, decide: impl FnOnce(&Request<'_, Bytes<'_>>) -> T) -> T {
        match self {
            Self::Object { name, needed } => decide(&Request::Object { name: &Bytes(name), needed: *needed }),
            Self::Content { name, known } => {
                known.with_contents(|contents| decide(&Request::Content { name: &Bytes(name), contents }))
            }
            Self::Unnamed { name, why, needed } => {
                decide(&Request::Unnamed { name: &Bytes(name), why: *why, needed: *needed })
            }
            Self::AnonymousExec => decide(&Request::AnonymousExec),
            Self::Address { address, port, flow } => {
                decide(&Request::Address { address: key_of(*address), port: *port, flow: *flow })
            }
            Self::Socket { family, raw } => {
                let (family, protocol) = of_socket_class(*family);
                decide(&Request::Socket { family, raw: *raw, protocol })
            }
            Self::Privilege(privilege) => decide(&Request::Privilege(*privilege)),
        }
    }

    /// The group of operations it belongs to, whose mode says what a denial leads to.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Object { needed, .. } | Self::Unnamed { needed, .. } => {
                if needed.0 & (Rights::EXEC.0 | Rights::PROBE.0) != 0 {
                    Family::Exec
                } else if needed.0 & Rights::LIBRARY.0 != 0 {
                    Family::Memory
                } else if needed.0 & (Rights::UNIX_CONNECT.0 | Rights::UNIX_BIND.0) != 0 {
                    Family::Network
                } else {
                    Family::File
                }
            }
            Self::Content { .. } => Family::Exec,
            Self::AnonymousExec => Family::Memory,
            Self::Address { .. } | Self::Socket { .. } => Family::Network,
            Self::Privilege(_) => Family::Privilege,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = |needed: &Rights| needed.names().collect::<Vec<_>>().join("+");
        match self {
            Self::Object { name, needed } => {
                write!(f, "{} {}", rights(needed), String::from_utf8_lossy(name))
            }
            Self::Content { name, known } => {
                f.write_str("content ")?;
                if let Some(digest) = known.sha256 {
                    write!(f, "{digest} ")?;
                }
                if let Some(digest) = known.fsverity {
                    write!(f, "{VERITY}{PREFIX}{digest} ")?;
                }
                f.write_str(&String::from_utf8_lossy(name))
            }
            Self::Unnamed { why, needed, .. } => write!(f, "{why} {}", rights(needed)),
            Self::AnonymousExec => f.write_str("anonymous-exec"),
            Self::Address { address, port, flow } => {
                let direction = match Protocol::of_flow(*flow) {
                    Some((_, Direction::Bind)) => "bind",
                    _ => "connect",
                };
                write!(f, "{direction} {}", address_text(*address, *port, *flow))
            }
            Self::Socket { family, raw } => {
                let raw = if *raw { " raw" } else { "" };
                match SocketFamily::from_class(*family) {
                    Some(family) => write!(f, "socket {}{raw}", family.name()),
                    None => write!(f, "socket {family}{raw}"),
                }
            }
            Self::Privilege(privilege) => write!(f, "privilege {privilege}"),
        }
    }
}

/// An address as a rule for it alone is written.
#[must_use]
pub fn address_text(address: IpAddr, port: u16, flow: Flow) -> String {
    let protocol = Protocol::of_flow(flow).map_or("any", |(protocol, _)| protocol.name());
    match address_of(key_of(address)) {
        IpAddr::V4(address) => format!("{protocol} {address}:{port}"),
        IpAddr::V6(address) => format!("{protocol} [{address}]:{port}"),
    }
}

/// The right that a unix socket's name needs.
#[must_use]
pub const fn unix_right(direction: Direction) -> Rights {
    match direction {
        Direction::Connect => Rights::UNIX_CONNECT,
        Direction::Bind => Rights::UNIX_BIND,
    }
}

/// The first words of lines.
fn kinds() -> String {
    let rights = Rights::NAMES.iter().map(|(_, name)| *name);
    let others = ["connect", "bind", "socket", "privilege", "anonymous-exec", "unlinked", "content"];
    rights.chain(others).collect::<Vec<_>>().join(", ")
}

/// Right names joined by `+`.
fn rights(text: &str) -> Result<Rights, QuestionError> {
    text.split('+').try_fold(Rights::NONE, |all, word| Ok(all.union(right(word)?)))
}

fn right(word: &str) -> Result<Rights, QuestionError> {
    let found = Rights::NAMES.iter().find(|(_, name)| *name == word).map(|(right, _)| *right);
    found.ok_or_else(|| QuestionError::UnknownRight(word.to_owned()))
}

fn privilege(name: &str) -> Result<Question, QuestionError> {
    let found = Privilege::from_name(name).map(Question::Privilege);
    found.ok_or_else(|| QuestionError::UnknownWord { what: "privilege", word: name.to_owned() })
}

fn socket_family(word: &str) -> Result<u32, QuestionError> {
    let named = SocketFamily::from_name(word).map(SocketFamily::class);
    let found = named.or_else(|| word.parse().ok());
    found.ok_or_else(|| QuestionError::UnknownWord { what: "socket family", word: word.to_owned() })
}

/// As the kernel side tells: netlink and other sockets are raw by custom only.
fn is_raw(family: u32, kind: &Value) -> bool {
    const SOCK_RAW: u64 = 3;
    const SOCK_PACKET: u64 = 10;
    let is = |name: &str, number: u64| kind.as_str() == Some(name) || kind.as_u64() == Some(number);
    let is_inet = family == families::INET.class() || family == families::INET6.class();
    is("packet", SOCK_PACKET) || (is_inet && is("raw", SOCK_RAW))
}

fn event_rights(needed: Option<&Value>) -> Result<Rights, QuestionError> {
    match needed {
        Some(Value::String(text)) => rights(text),
        Some(Value::Array(words)) if !words.is_empty() => words.iter().try_fold(Rights::NONE, |all, word| {
            Ok(all.union(right(word.as_str().ok_or(QuestionError::Field("needed"))?)?))
        }),
        _ => Err(QuestionError::Field("needed")),
    }
}

/// The flow by its own name, or put together from protocol and operation.
fn event_flow(event: &Value, object: &Value) -> Option<Flow> {
    let text = |name: &str| object.get(name).or_else(|| event.get(name)).and_then(Value::as_str);
    let by_name = |name: &str| Flow::NAMES.iter().find(|(_, known)| *known == name).map(|(flow, _)| *flow);
    if let Some(flow) = text("flow").and_then(by_name) {
        return Some(flow);
    }
    if let Some(Value::Array(words)) = event.get("needed")
        && let Some(flow) = words.iter().filter_map(Value::as_str).find_map(by_name)
    {
        return Some(flow);
    }
    let operation =
        text("operation").or_else(|| text("hook")).or_else(|| text("direction")).unwrap_or_default();
    let is_bind = operation.contains("bind") || operation.contains("listen");
    let direction = if is_bind { Direction::Bind } else { Direction::Connect };
    Protocol::from_name(text("protocol")?).filter(|it| *it != Protocol::Any).map(|it| it.flows(direction))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines() {
        let same = [
            "read /etc/passwd",
            "read+write /a b",
            "exec /x",
            "code -c",
            "code $PYTHONPATH",
            "unix-connect @bus",
            "connect tcp 10.0.0.1:443",
            "bind udp [::1]:53",
            "privilege mount",
            "socket netlink",
            "socket packet raw",
            "anonymous-exec",
            "unlinked exec",
            "content e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 /a b",
            "content fsverity=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 /a b",
            "content e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 \
             fsverity=sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad /a b",
        ];
        for line in same {
            assert_eq!(Question::from_line(line.as_bytes()).map(|it| it.to_string()).as_deref(), Ok(line));
        }
        assert_eq!(Question::from_line(b"connect unix /s"), Question::object("/s", Rights::UNIX_CONNECT));
        assert_eq!(Question::from_line(b"read /\xff"), Question::object(&b"/\xff"[..], Rights::READ));
        let bad = [
            "",
            "read",
            "read etc",
            "look /x",
            "connect tcp *:1",
            "connect any 1.2.3.4:1",
            "connect tcp 1.2.3.4:1-2",
            "privilege x",
            "socket x",
            "socket inet odd",
            "content /x",
            "content e3b0 /x",
            "content fsverity=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 /x",
            "content fsverity=sha256:e3b0 /x",
            "content e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "content e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 x",
        ];
        for line in bad {
            assert!(Question::from_line(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn events() {
        let table = [
            (
                json!({"needed": ["read"], "object": {"kind": "name", "path": "/etc/shadow"}}),
                "read /etc/shadow",
            ),
            (json!({"needed": ["unix-bind"], "object": {"kind": "path", "path": "@x"}}), "unix-bind @x"),
            (
                json!({"needed": ["exec"], "reason": "unlinked", "object": {"kind": "unnamed"}}),
                "unlinked exec",
            ),
            (
                json!({"needed": ["exec"], "reason": "unreachable", "object": {"kind": "unnamed"}}),
                "unreachable exec",
            ),
            (json!({"object": {"kind": "memory"}}), "anonymous-exec"),
            (
                json!({"operation": "socket_connect", "object": {"kind": "address", "address": "10.0.0.1", "port": 80, "protocol": "tcp"}}),
                "connect tcp 10.0.0.1:80",
            ),
            (
                json!({"needed": ["udp-bind"], "object": {"kind": "address", "address": "::", "port": 53}}),
                "bind udp [::]:53",
            ),
            (
                json!({"family": "network", "object": {"kind": "socket", "family": 16, "type": 3}}),
                "socket netlink",
            ),
            (json!({"object": {"kind": "socket", "family": "inet", "type": "raw"}}), "socket inet raw"),
            (json!({"object": {"kind": "socket", "family": "alg"}}), "socket alg"),
            (json!({"object": {"kind": "privilege", "privilege": "mount"}}), "privilege mount"),
        ];
        for (event, expected) in table {
            assert_eq!(
                Question::from_event(&event).map(|it| it.to_string()).as_deref(),
                Ok(expected),
                "{event}"
            );
        }
        for event in [
            json!(null),
            json!({}),
            json!({"object": {"kind": "name", "path": "/x"}}),
            json!({"object": {"kind": "address"}}),
        ] {
            assert!(Question::from_event(&event).is_err(), "{event}");
        }
    }
}
