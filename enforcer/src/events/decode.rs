//! Bytes of the ring to an [`Event`]. A total function: every input gives an event or an error, never a panic.

use enforcer_common::{
    event::{EventHeader, MAGIC, ObjectKind, flag, known},
    hook::{Hook, Privilege},
    net::Flow,
    rights::Rights,
    verdict::{Family, Fault, Mode, Reason},
};
use zerocopy::FromBytes as _;

use crate::policy::digest::{ContentDigest, Known};

/// One decision that was not an allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since boot.
    pub boot_ns: u64,
    /// Generation in force.
    pub generation: u64,
    /// The task's cgroup.
    pub cgroup: u64,
    /// Policy slot.
    pub slot: u32,
    /// Its incarnation.
    pub incarnation: u32,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Parent process.
    pub ppid: u32,
    /// Real user.
    pub uid: u32,
    /// The task's name.
    pub comm: Vec<u8>,
    /// The parent's name.
    pub parent_comm: Vec<u8>,
    /// The task's program. `None` if it could not be had.
    pub exe: Option<Vec<u8>>,
    /// Whether the front of [`Event::exe`] is missing.
    pub exe_truncated: bool,
    /// Whether the task was on its way into the workload.
    pub entering: bool,
    /// Whether it was refused, or only noted.
    pub refused: bool,
    /// Where.
    pub hook: Hook,
    /// What kind of operation.
    pub family: Family,
    /// The mode that applied.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
    /// What went wrong inside, if anything.
    pub fault: Fault,
    /// Rights that were needed.
    pub needed: Rights,
    /// On what.
    pub object: Object,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A path, or `@` and an abstract socket's name.
    Name(Vec<u8>),
    /// A program, and what could be had of what it holds.
    Content(Vec<u8>, Known),
    /// A file without a name, and what its dentry is called.
    Unnamed(Vec<u8>),
    /// Executable memory.
    Memory,
    /// A transport address.
    Address {
        /// IPv6 or v4-mapped.
        address: [u8; 16],
        /// Port.
        port: u16,
        /// What was done.
        flow: Flow,
    },
    /// `socket(2)`.
    Socket {
        /// Address family.
        family: u32,
        /// Whether it is a raw or packet socket.
        raw: bool,
    },
    /// A privilege.
    Privilege(Privilege),
}

/// A record that is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than it says, or than a header.
    #[error("a record of {got} bytes should have {need}")]
    Short {
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Not a record.
    #[error("a record starts with {0:#010x}")]
    Magic(u32),
    /// A code that this program does not know.
    #[error("a record has {field} {value}, which this program does not know")]
    Code {
        /// Which code.
        field: &'static str,
        /// Its value.
        value: u32,
    },
}

/// Decodes one record. Bytes behind what its lengths say are padding.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let short = |need| DecodeError::Short { got: bytes.len(), need };
    let (header, rest) = EventHeader::read_from_prefix(bytes).map_err(|_| short(size_of::<EventHeader>()))?;
    if header.magic != MAGIC {
        return Err(DecodeError::Magic(header.magic));
    }
    let exe_len = usize::from(header.exe_len);
    let name_len = usize::from(header.name_len);
    let need = size_of::<EventHeader>() + exe_len + name_len;
    let exe = rest.get(..exe_len).ok_or_else(|| short(need))?;
    let name = rest.get(exe_len..exe_len + name_len).ok_or_else(|| short(need))?;
    Ok(Event {
        boot_ns: header.boot_ns,
        generation: header.generation,
        cgroup: header.cgroup,
        slot: header.slot,
        incarnation: header.incarnation,
        pid: header.pid,
        tid: header.tid,
        ppid: header.ppid,
        uid: header.uid,
        comm: until_nul(&header.comm),
        parent_comm: until_nul(&header.parent_comm),
        exe: (header.flags & flag::EXE_UNKNOWN == 0).then(|| exe.to_vec()),
        exe_truncated: header.flags & flag::EXE_TRUNCATED != 0,
        entering: header.flags & flag::ENTERING != 0,
        refused: header.flags & flag::REFUSED != 0,
        hook: known("hook", header.hook, Hook::from_code)?,
        family: known("family", header.family, Family::from_code)?,
        mode: known("mode", header.mode, Mode::from_code)?,
        reason: known("reason", header.reason, Reason::from_code)?,
        fault: known("fault", header.fault, Fault::from_code)?,
        needed: Rights(header.needed),
        object: object(&header, name)?,
    })
}

fn object(header: &EventHeader, name: &[u8]) -> Result<Object, DecodeError> {
    Ok(match known("object", header.object, ObjectKind::from_code)? {
        ObjectKind::Name => Object::Name(name.to_vec()),
        ObjectKind::Content => {
            let has = |bit: u32, digest| (header.detail & bit != 0).then_some(ContentDigest(digest));
            let sha256 = has(known::SHA256, header.digest);
            let fsverity = has(known::FSVERITY, header.fsverity);
            Object::Content(name.to_vec(), Known { sha256, fsverity })
        }
        ObjectKind::Unnamed => Object::Unnamed(name.to_vec()),
        ObjectKind::Memory => Object::Memory,
        ObjectKind::Address => {
            let port = u16::try_from(header.port)
                .map_err(|_| DecodeError::Code { field: "port", value: header.port })?;
            Object::Address { address: header.address, port, flow: Flow(header.detail) }
        }
        ObjectKind::Socket => Object::Socket { family: header.detail, raw: header.port != 0 },
        ObjectKind::Privilege => {
            let code = u8::try_from(header.detail).ok().and_then(Privilege::from_code);
            Object::Privilege(code.ok_or(DecodeError::Code { field: "privilege", value: header.detail })?)
        }
    })
}

fn known<T>(field: &'static str, code: u8, from: impl Fn(u8) -> Option<T>) -> Result<T, DecodeError> {
    from(code).ok_or(DecodeError::Code { field, value: code.into() })
}

fn until_nul(text: &[u8]) -> Vec<u8> {
    text.iter().copied().take_while(|byte| *byte != 0).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use zerocopy::IntoBytes as _;

    use super::*;

    /// A refused open of `/etc/shadow` by `/usr/bin/cat`.
    pub(crate) fn header() -> EventHeader {
        EventHeader {
            magic: MAGIC,
            flags: flag::REFUSED,
            boot_ns: 1_500_000_000,
            generation: 4,
            cgroup: 77,
            slot: 2,
            incarnation: 9,
            pid: 100,
            tid: 101,
            ppid: 50,
            uid: 33,
            hook: Hook::FileOpen.code(),
            family: Family::File.code(),
            mode: Mode::Enforce.code(),
            reason: Reason::NoRule.code(),
            fault: Fault::None.code(),
            object: ObjectKind::Name.code(),
            exe_len: 12,
            name_len: 11,
            needed: Rights::READ.0,
            detail: 0,
            port: 0,
            reserved: 0,
            address: [0; 16],
            comm: *b"cat\0\0\0\0\0\0\0\0\0\0\0\0\0",
            parent_comm: *b"sixteen-bytes-ok",
            digest: [0; 32],
            fsverity: [0; 32],
        }
    }

    pub(crate) fn record(header: &EventHeader, exe: &[u8], name: &[u8]) -> Vec<u8> {
        [header.as_bytes(), exe, name].concat()
    }

    fn sample() -> Vec<u8> {
        record(&header(), b"/usr/bin/cat", b"/etc/shadow")
    }

    #[test]
    fn a_whole_record() {
        let event = decode(&sample()).unwrap();
        assert_eq!(event.object, Object::Name(b"/etc/shadow".to_vec()));
        assert_eq!(event.exe.as_deref(), Some(&b"/usr/bin/cat"[..]));
        assert_eq!(
            (event.comm.as_slice(), event.parent_comm.as_slice()),
            (&b"cat"[..], &b"sixteen-bytes-ok"[..])
        );
        assert_eq!((event.pid, event.tid, event.ppid, event.uid), (100, 101, 50, 33));
        assert!(event.refused && !event.entering && !event.exe_truncated);
    }

    #[test]
    fn objects() {
        let with =
            |kind: ObjectKind, detail, port| EventHeader { object: kind.code(), detail, port, ..header() };
        let address = EventHeader { address: [7; 16], ..with(ObjectKind::Address, Flow::UDP_BIND.0, 53) };
        let table = [
            (with(ObjectKind::Unnamed, 0, 0), Object::Unnamed(b"/etc/shadow".to_vec())),
            (with(ObjectKind::Memory, 0, 0), Object::Memory),
            (with(ObjectKind::Content, 0, 0), Object::Content(b"/etc/shadow".to_vec(), Known::default())),
            (
                EventHeader { digest: [7; 32], ..with(ObjectKind::Content, 1, 0) },
                Object::Content(b"/etc/shadow".to_vec(), Known::sha256(ContentDigest([7; 32]))),
            ),
            (
                EventHeader { fsverity: [8; 32], ..with(ObjectKind::Content, known::FSVERITY, 0) },
                Object::Content(
                    b"/etc/shadow".to_vec(),
                    Known { sha256: None, fsverity: Some(ContentDigest([8; 32])) },
                ),
            ),
            (address, Object::Address { address: [7; 16], port: 53, flow: Flow::UDP_BIND }),
            (with(ObjectKind::Socket, 17, 1), Object::Socket { family: 17, raw: true }),
            (with(ObjectKind::Socket, 2, 0), Object::Socket { family: 2, raw: false }),
            (with(ObjectKind::Privilege, 5, 0), Object::Privilege(Privilege::Bpf)),
        ];
        for (header, expected) in table {
            assert_eq!(decode(&record(&header, b"/usr/bin/cat", b"/etc/shadow")).unwrap().object, expected);
        }
    }

    #[test]
    fn cut_at_any_length_it_is_an_error() {
        let whole = sample();
        for len in 0..whole.len() {
            assert!(matches!(decode(&whole[..len]), Err(DecodeError::Short { .. })), "{len}");
        }
        let mut padded = whole.clone();
        padded.extend([0xaa; 40]);
        assert_eq!(decode(&padded), decode(&whole));
    }

    #[test]
    fn any_byte_changed_it_is_an_event_or_an_error() {
        let whole = sample();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = decode(&changed);
            }
        }
    }

    #[test]
    fn unknown_codes_are_named() {
        for expected in ["hook", "family", "mode", "reason", "fault", "object"] {
            let mut header = header();
            *match expected {
                "hook" => &mut header.hook,
                "family" => &mut header.family,
                "mode" => &mut header.mode,
                "reason" => &mut header.reason,
                "fault" => &mut header.fault,
                _ => &mut header.object,
            } = 250;
            let result = decode(&record(&header, b"/usr/bin/cat", b"/etc/shadow"));
            assert_eq!(result, Err(DecodeError::Code { field: expected, value: 250 }));
        }
        let header = EventHeader { magic: 1, ..header() };
        assert_eq!(decode(&record(&header, b"", b"")), Err(DecodeError::Magic(1)));
    }
}
