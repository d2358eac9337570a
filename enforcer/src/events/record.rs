//! The published form of an event: one JSON object a line. Documented in `docs/events.md`; a change that a reader
//! could trip over raises [`SCHEMA_VERSION`].

use std::net::{IpAddr, Ipv6Addr};

use enforcer_common::{abi::Measure, environment, hook::Hook, net::Flow, rights::Rights, verdict::Fault};
use serde::{Deserialize, Serialize};

use super::{
    admission::AdmissionRecord,
    container::ContainerRecord,
    decode::{Event, Object},
    text,
};
use crate::policy::families::SocketFamily;

/// Version of the schema.
pub const SCHEMA_VERSION: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Record {
    /// A decision that was not an allow.
    Decision(Box<DecisionRecord>),
    /// Events that are missing from the log.
    Lost(LostRecord),
    /// About the policies themselves.
    Admission(Box<AdmissionRecord>),
    /// About containers.
    Container(Box<ContainerRecord>),
}

/// See [`Record::Decision`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// RFC 3339, UTC.
    pub time: String,
    /// Nanoseconds since boot, as the kernel stamped it.
    pub boot_ns: u64,
    /// The unit's name, or the cgroup's path where there is no unit.
    pub workload: String,
    /// The policy's name. `null` if it is not known any more.
    pub policy: Option<String>,
    /// The policy's slot.
    pub slot: u32,
    /// The slot's incarnation.
    pub incarnation: u32,
    /// The generation in force.
    pub generation: u64,
    /// systemd unit.
    pub unit: Option<String>,
    /// Cgroup path. `null` if the cgroup is gone.
    pub cgroup: Option<String>,
    /// Cgroup id.
    pub cgroup_id: u64,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Task name.
    pub comm: String,
    /// Program.
    pub exe: Option<String>,
    /// Whether the front of `exe` is missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exe_truncated: bool,
    /// Parent processes, nearest first.
    pub parents: Vec<Parent>,
    /// Hook.
    pub hook: String,
    /// Family.
    pub family: String,
    /// What was done.
    pub operation: String,
    /// On what.
    pub object: ObjectRecord,
    /// Rights that were needed.
    pub needed: Vec<String>,
    /// `denied` or `audited`.
    pub verdict: VerdictName,
    /// `enforce` or `audit`.
    pub mode: String,
    /// Why.
    pub reason: String,
    /// What went wrong inside the enforcer. `null`: nothing.
    pub fault: Option<String>,
    /// Whether the policy is in force for an emergency.
    #[serde(default, skip_serializing_if = "is_false")]
    pub break_glass: bool,
    /// Whether the task was on its way into the workload.
    #[serde(default, skip_serializing_if = "is_false")]
    pub entering: bool,
    /// The policy line that would allow it.
    pub suggestion: Option<String>,
}

/// A process above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Process.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// Program, if it could be had.
    pub exe: Option<String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictName {
    /// Refused.
    Denied,
    /// Allowed and noted.
    Audited,
}

/// What an operation was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ObjectRecord {
    /// A path.
    Path {
        /// As the policy sees it.
        path: String,
        /// SHA-256 of the file, where its content was judged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
        /// fs-verity digest of the file, `sha256:` first, where its content was judged by that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fsverity: Option<String>,
    },
    /// An abstract unix socket. One with a path is a path.
    Unix {
        /// Its name, with the `@`.
        name: String,
    },
    /// An interpreter's argument; `-` is standard input.
    Argument {
        /// The argument.
        name: String,
    },
    /// A variable of an interpreter's environment.
    Variable {
        /// Its name, with a `$`.
        name: String,
    },
    /// A file without a name.
    Unnamed {
        /// What its dentry is called.
        name: String,
    },
    /// Executable memory that no file backs.
    Memory,
    /// A transport address.
    Address {
        /// IPv4 or IPv6.
        address: String,
        /// Port.
        port: u16,
        /// Transport protocol.
        protocol: String,
        /// Protocol and direction, as the decision sees them.
        flow: String,
    },
    /// A socket.
    Socket {
        /// Address family, by name if it has one in policies, otherwise by number.
        family: String,
        /// Whether it is a raw or packet socket.
        raw: bool,
    },
    /// A privilege.
    Privilege {
        /// Its name in policies.
        privilege: String,
    },
}

/// See [`Record::Lost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRecord {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// RFC 3339, UTC.
    pub time: String,
    /// Where they got lost.
    pub place: LostPlace,
    /// How many, since the last such line.
    pub count: u64,
}

/// Where events get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostPlace {
    /// The kernel's ring was full.
    Ring,
    /// The queue before the log was full: the log is too slow.
    Queue,
    /// They could not be decoded.
    Decoder,
}

/// What the daemon adds to an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// RFC 3339.
    pub time: String,
    /// Policy name.
    pub policy: Option<String>,
    /// Whether the policy is in force for an emergency.
    pub break_glass: bool,
    /// Cgroup path.
    pub cgroup: Option<Vec<u8>>,
    /// Parents, nearest first.
    pub parents: Vec<Parent>,
    /// Policy line.
    pub suggestion: Option<String>,
}

impl Record {
    /// The record of an event.
    #[must_use]
    pub fn of(event: &Event, context: Context) -> Self {
        let unit = context.cgroup.as_deref().and_then(crate::cgroups::unit);
        let cgroup = context.cgroup.as_deref().map(text::from_bytes);
        let workload =
            unit.clone().or_else(|| cgroup.clone()).unwrap_or_else(|| format!("cgroup {}", event.cgroup));
        Self::Decision(Box::new(DecisionRecord {
            schema_version: SCHEMA_VERSION,
            time: context.time,
            boot_ns: event.boot_ns,
            workload,
            policy: context.policy,
            slot: event.slot,
            incarnation: event.incarnation,
            generation: event.generation,
            unit,
            cgroup,
            cgroup_id: event.cgroup,
            pid: event.pid,
            tid: event.tid,
            uid: event.uid,
            comm: text::from_bytes(&event.comm),
            exe: event.exe.as_deref().map(text::from_bytes),
            exe_truncated: event.exe_truncated,
            parents: context.parents,
            hook: event.hook.name().to_owned(),
            family: event.family.name().to_owned(),
            operation: operation(event).to_owned(),
            object: object(&event.object),
            needed: event.needed.names().map(str::to_owned).collect(),
            verdict: if event.refused { VerdictName::Denied } else { VerdictName::Audited },
            mode: event.mode.name().to_owned(),
            reason: event.reason.name().to_owned(),
            fault: (event.fault != Fault::None).then(|| event.fault.name().to_owned()),
            break_glass: context.break_glass,
            entering: event.entering,
            suggestion: context.suggestion,
        }))
    }
}

/// What the task did, in an operator's words.
fn operation(event: &Event) -> &'static str {
    match event.hook {
        Hook::BprmCheckSecurity | Hook::BprmCheckDigest | Hook::BprmCommittedCreds => "exec",
        Hook::FileOpen => by_rights(event.needed),
        Hook::MmapFile | Hook::FileMprotect | Hook::ShmShmat => match (&event.object, event.hook) {
            (Object::Memory, Hook::MmapFile) => "mmap",
            (Object::Memory, Hook::FileMprotect) => "mprotect",
            (Object::Memory, _) => "shmat",
            _ => "library",
        },
        Hook::FileReceive => "receive",
        Hook::PathMknod | Hook::InodeCreate | Hook::InodeMknod => "create",
        Hook::PathMkdir | Hook::InodeMkdir => "mkdir",
        Hook::PathSymlink | Hook::InodeSymlink => "symlink",
        Hook::PathUnlink | Hook::InodeUnlink => "unlink",
        Hook::PathRmdir | Hook::InodeRmdir => "rmdir",
        Hook::PathRename | Hook::InodeRename => "rename",
        Hook::PathLink | Hook::InodeLink => "link",
        Hook::PathTruncate => "truncate",
        Hook::PathChmod => "chmod",
        Hook::PathChown => "chown",
        Hook::InodeSetxattr => "setxattr",
        Hook::InodeRemovexattr => "removexattr",
        Hook::SocketCreate => "socket",
        Hook::SocketConnect | Hook::UnixStreamConnect => "connect",
        Hook::SocketSendmsg | Hook::UnixMaySend => "send",
        Hook::SocketBind => "bind",
        Hook::SocketListen => "listen",
        Hook::SctpBindConnect => match event.object {
            Object::Address { flow: Flow::SCTP_BIND, .. } => "bind",
            _ => "connect",
        },
        Hook::SbMount => "mount",
        Hook::SbUmount => "umount",
        Hook::SbRemount => "remount",
        Hook::MoveMount => "move-mount",
        Hook::SbPivotroot => "pivot-root",
        Hook::PathChroot => "chroot",
        Hook::UsernsCreate => "create-user-namespace",
        Hook::PtraceAccessCheck => "ptrace",
        Hook::PtraceTraceme => "traceme",
        Hook::Bpf | Hook::BpfMap | Hook::BpfProg => "bpf",
        Hook::PerfEventOpen => "perf-event-open",
        Hook::KernelModuleRequest => "request-module",
        Hook::KernelReadFile | Hook::KernelLoadData => "load-kernel-code",
        Hook::UringCmd => "uring-command",
        Hook::TaskKill | Hook::FileSendSigiotask => "signal",
        Hook::MmapAddr => "mmap",
        Hook::BprmCredsForExec => "exec-check",
        Hook::InodeSetattr => "utime",
        Hook::InodeSetAcl => "set-acl",
        Hook::InodeRemoveAcl => "remove-acl",
        Hook::InodeFileSetattr => "set-file-flags",
        Hook::FileIoctl | Hook::FileIoctlCompat => "ioctl",
        Hook::PathNotify => "watch",
        Hook::BprmCredsFromFile => "inherit",
        Hook::FilePermission => "send",
        Hook::FileFcntl => "set-signal-owner",
        Hook::SocketSetsockopt => "set-socket-option",
        Hook::KeyAlloc => "create-key",
        Hook::KeyPermission => "use-key",
        Hook::UringSqpoll => "uring-sqpoll",
        Hook::UringOverrideCreds => "uring-credentials",
        Hook::Settime => "set-time",
        Hook::Quotactl | Hook::QuotaOn => "quota",
        Hook::Syslog => "kernel-log",
        Hook::TunDevCreate | Hook::TunDevOpen => "tun",
        Hook::TaskSetscheduler | Hook::TaskSetnice | Hook::TaskSetioprio => "schedule",
        Hook::TaskMovememory => "move-memory",
        Hook::TaskPrlimit => "set-limits",
        Hook::Capable => "capability",
        Hook::TaskAlloc => "fork",
        Hook::TaskFree => "exit",
        Hook::CgroupMkdir | Hook::CgroupRmdir | Hook::CgroupAttachTask => "cgroup",
    }
}

fn by_rights(needed: Rights) -> &'static str {
    let order = [
        (Rights::CREATE, "create"),
        (Rights::WRITE, "write"),
        (Rights::EXEC, "exec"),
        (Rights::CODE, "read-code"),
    ];
    order.iter().find(|(right, _)| needed.contains(*right)).map_or("read", |(_, name)| name)
}

fn object(object: &Object) -> ObjectRecord {
    match object {
        Object::Name(name) if name.starts_with(b"@") => ObjectRecord::Unix { name: text::from_bytes(name) },
        Object::Name(name) if name.starts_with(b"-") => {
            ObjectRecord::Argument { name: text::from_bytes(name) }
        }
        Object::Name(name) if name.first() == Some(&environment::SIGN) => {
            ObjectRecord::Variable { name: text::from_bytes(name) }
        }
        Object::Name(name) => {
            ObjectRecord::Path { path: text::from_bytes(name), sha256: None, fsverity: None }
        }
        Object::Content(name, known) => {
            let text = |wanted| {
                known.pins().find(|content| content.measure == wanted).map(|content| content.to_string())
            };
            ObjectRecord::Path {
                path: text::from_bytes(name),
                sha256: text(Measure::Sha256),
                fsverity: text(Measure::FsVerity),
            }
        }
        Object::Unnamed(name) => ObjectRecord::Unnamed { name: text::from_bytes(name) },
        Object::Memory => ObjectRecord::Memory,
        Object::Address { address, port, flow } => ObjectRecord::Address {
            address: address_text(*address),
            port: *port,
            protocol: protocol(*flow).to_owned(),
            flow: flow.name().to_owned(),
        },
        Object::Socket { family, raw } => {
            let name = SocketFamily::from_class(*family).map(|family| family.name().to_owned());
            ObjectRecord::Socket { family: name.unwrap_or_else(|| family.to_string()), raw: *raw }
        }
        Object::Privilege(privilege) => ObjectRecord::Privilege { privilege: privilege.name().to_owned() },
    }
}

/// IPv4 where it is IPv4.
fn address_text(address: [u8; 16]) -> String {
    IpAddr::V6(Ipv6Addr::from(address)).to_canonical().to_string()
}

fn protocol(flow: Flow) -> &'static str {
    match flow {
        Flow::TCP_CONNECT | Flow::TCP_BIND => "tcp",
        Flow::UDP_CONNECT | Flow::UDP_BIND => "udp",
        Flow::SCTP_CONNECT | Flow::SCTP_BIND => "sctp",
        _ => "other",
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// One line for people: what happened, to whom, and why.
#[must_use]
pub fn compact(record: &Record) -> String {
    match record {
        Record::Admission(admission) => admission.compact(),
        Record::Container(container) => container.compact(),
        Record::Lost(lost) => {
            let place = match lost.place {
                LostPlace::Ring => "the kernel's ring was full",
                LostPlace::Queue => "the log was too slow",
                LostPlace::Decoder => "they could not be decoded",
            };
            format!("{}  lost     {} events: {place}", lost.time, lost.count)
        }
        Record::Decision(decision) => {
            let verdict = match decision.verdict {
                VerdictName::Denied => "denied",
                VerdictName::Audited => "audited",
            };
            let policy = decision.policy.as_deref().unwrap_or("?");
            let exe = decision.exe.as_deref().unwrap_or(&decision.comm);
            let object = match &decision.object {
                ObjectRecord::Path { path, sha256, fsverity } => {
                    let digests = [("sha256", sha256), ("fsverity", fsverity)];
                    let known =
                        digests.iter().filter_map(|(name, it)| Some(format!(" {name} {}", it.as_ref()?)));
                    path.clone() + &known.collect::<String>()
                }
                ObjectRecord::Unix { name }
                | ObjectRecord::Argument { name }
                | ObjectRecord::Variable { name } => name.clone(),
                ObjectRecord::Unnamed { name } => format!("(unnamed) {name}"),
                ObjectRecord::Memory => "executable memory".to_owned(),
                ObjectRecord::Address { address, port, protocol, .. } if address.contains(':') => {
                    format!("{protocol} [{address}]:{port}")
                }
                ObjectRecord::Address { address, port, protocol, .. } => {
                    format!("{protocol} {address}:{port}")
                }
                ObjectRecord::Socket { family, raw } => format!("{}{family}", if *raw { "raw " } else { "" }),
                ObjectRecord::Privilege { privilege } => privilege.clone(),
            };
            format!(
                "{}  {verdict:<7}  {policy}  {}[{}]  {} {object}  ({})",
                decision.time, exe, decision.pid, decision.operation, decision.reason
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use enforcer_common::{event::ObjectKind, net::v4_mapped};

    use super::*;
    use crate::events::decode::{decode, tests as samples};

    fn context() -> Context {
        Context {
            time: "2026-11-21T22:30:00.000000001Z".into(),
            break_glass: false,
            policy: Some("web".into()),
            cgroup: Some(b"/system.slice/nginx.service".to_vec()),
            parents: vec![Parent { pid: 50, comm: "nginx".into(), exe: Some("/usr/sbin/nginx".into()) }],
            suggestion: Some("file.read = [\"/etc/shadow\"]".into()),
        }
    }

    #[test]
    fn golden() {
        let event = decode(&samples::record(&samples::header(), b"/usr/bin/cat", b"/etc/sh\xffdow")).unwrap();
        let json = serde_json::to_string(&Record::of(&event, context())).unwrap();
        let expected = r#"{"kind":"decision","schema_version":1,"time":"2026-11-21T22:30:00.000000001Z","boot_ns":1500000000,"workload":"nginx.service","policy":"web","slot":2,"incarnation":9,"generation":4,"unit":"nginx.service","cgroup":"/system.slice/nginx.service","cgroup_id":77,"pid":100,"tid":101,"uid":33,"comm":"cat","exe":"/usr/bin/cat","parents":[{"pid":50,"comm":"nginx","exe":"/usr/sbin/nginx"}],"hook":"file_open","family":"file","operation":"read","object":{"kind":"path","path":"/etc/sh\\xffdow"},"needed":["read"],"verdict":"denied","mode":"enforce","reason":"no-rule","fault":null,"suggestion":"file.read = [\"/etc/shadow\"]"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), Record::of(&event, context()));
    }

    #[test]
    fn golden_lost() {
        let lost = Record::Lost(LostRecord {
            schema_version: SCHEMA_VERSION,
            time: "2026-11-21T22:30:00.000000001Z".into(),
            place: LostPlace::Ring,
            count: 7,
        });
        let json = serde_json::to_string(&lost).unwrap();
        let expected = r#"{"kind":"lost","schema_version":1,"time":"2026-11-21T22:30:00.000000001Z","place":"ring","count":7}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn addresses_and_lines_for_people() {
        let mut header = samples::header();
        header.hook = Hook::SocketConnect.code();
        header.object = ObjectKind::Address.code();
        header.detail = Flow::TCP_CONNECT.0;
        header.port = 443;
        header.address = v4_mapped([192, 0, 2, 1]);
        header.needed = 0;
        let event = decode(&samples::record(&header, b"/usr/bin/cat", b"12345678901")).unwrap();
        let record = Record::of(&event, context());
        let Record::Decision(decision) = &record else { panic!() };
        assert_eq!(decision.operation, "connect");
        assert_eq!(
            decision.object,
            ObjectRecord::Address {
                address: "192.0.2.1".into(),
                port: 443,
                protocol: "tcp".into(),
                flow: "tcp-connect".into()
            }
        );
        assert_eq!(
            compact(&record),
            "2026-11-21T22:30:00.000000001Z  denied   web  /usr/bin/cat[100]  connect tcp 192.0.2.1:443  (no-rule)"
        );
    }

    #[test]
    fn a_variable_is_no_path() {
        let mut header = samples::header();
        header.needed = Rights::CODE.0;
        header.hook = Hook::BprmCommittedCreds.code();
        let event = decode(&samples::record(&header, b"/usr/bin/php", b"$PYTHONPATH")).unwrap();
        let Record::Decision(decision) = Record::of(&event, context()) else { panic!() };
        assert_eq!(decision.object, ObjectRecord::Variable { name: "$PYTHONPATH".into() });
        let event = serde_json::to_value(&decision).unwrap();
        let question = crate::policy::question::Question::from_event(&event).unwrap();
        assert_eq!(question.to_string(), "code $PYTHONPATH");
    }

    #[test]
    fn an_open_is_called_by_what_it_needs() {
        let table = [
            (Rights::READ, "read"),
            (Rights::READ.union(Rights::WRITE), "write"),
            (Rights::WRITE.union(Rights::CREATE), "create"),
        ];
        for (needed, expected) in table {
            assert_eq!(by_rights(needed), expected);
        }
    }
}
