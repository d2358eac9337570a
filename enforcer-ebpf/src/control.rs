//! The frame of every hook: who asks, what the policy says, what the kernel is told, what is reported.
//!
//! [`conclude`] is the only function that turns a decision or a fault into an errno.

use enforcer_common::{
    abi::Counter,
    decide::{self, Request, Text},
    event::{EVENT_MAX, EventHeader, MAGIC, ObjectKind, flag},
    field::Field,
    hook::{Hook, Privilege},
    rights::Rights,
    verdict::{Decision, Family, Fault, Mode, Reason, outcome},
};

use crate::{
    kernel,
    maps::EVENTS,
    name::{self, Name, Named, Place},
    subject::{self, Standing, Subject},
    tables::count,
};

/// `-EPERM`.
pub const REFUSED: i32 = -1;
/// The hook has no objection.
pub const PASS: i32 = 0;

/// What a hook body works with.
pub type Ask<'a> = Request<'a, Name>;

/// A control point: program, family of its mode.
#[derive(Clone, Copy)]
pub struct Point {
    pub hook: Hook,
    pub family: Family,
}

impl Point {
    #[inline(always)]
    pub const fn new(hook: Hook, family: Family) -> Self {
        Self { hook, family }
    }

    /// Runs a hook for a task under a policy that is past its entry. The host, and launchers still setting a workload
    /// up, pass.
    #[inline(always)]
    pub fn judge(self, body: impl FnOnce(&Subject) -> i32) -> i32 {
        match subject::current() {
            Ok(Standing::Host) => PASS,
            Ok(Standing::Workload(subject)) if subject.entering => PASS,
            Ok(Standing::Workload(subject)) => body(&subject),
            Err(fault) => self.stranded(fault),
        }
    }

    /// A task inside a workload whose policy cannot be told: nothing says that it may, so it may not.
    #[inline(always)]
    pub fn stranded(self, _: Fault) -> i32 {
        count(Counter::Faults);
        count(Counter::Denied);
        REFUSED
    }

    /// Decides and concludes.
    #[inline(always)]
    pub fn decide(self, subject: &Subject, request: &Ask<'_>) -> i32 {
        let decision = decide::decide(request, subject.head, &subject.maps);
        self.conclude(subject, request, decision)
    }

    /// Decides about rights on the object at a place.
    #[inline(always)]
    pub fn decide_place(self, subject: &Subject, place: Place, pending: bool, needed: Rights) -> i32 {
        let scratch = match name::scratch() {
            Ok(scratch) => scratch,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        match name::of_place(place, pending, scratch) {
            Ok(Named::Path(name)) => self.decide(subject, &Request::Object { name: &name, needed }),
            Ok(Named::Nothing(name, why)) => self.decide(subject, &Request::Unnamed { name: &name, why, needed }),
            Err(fault) => self.fault(subject, needed, fault),
        }
    }

    /// Concludes a request whose object could not be told.
    #[inline(always)]
    pub fn fault(self, subject: &Subject, needed: Rights, fault: Fault) -> i32 {
        let report = Report {
            kind: ObjectKind::Unnamed,
            needed: needed.0,
            ..Report::new(self, Err(fault))
        };
        conclude(subject, &report)
    }

    #[inline(always)]
    fn conclude(self, subject: &Subject, request: &Ask<'_>, decision: Result<Decision, Fault>) -> i32 {
        let report = Report::new(self, decision).about(request);
        conclude(subject, &report)
    }
}

/// What an event says about the request.
struct Report {
    point: Point,
    decision: Result<Decision, Fault>,
    kind: ObjectKind,
    needed: u16,
    detail: u32,
    port: u32,
    address: [u8; 16],
    name: Option<Name>,
}

impl Report {
    #[inline(always)]
    const fn new(point: Point, decision: Result<Decision, Fault>) -> Self {
        Self { point, decision, kind: ObjectKind::Unnamed, needed: 0, detail: 0, port: 0, address: [0; 16], name: None }
    }

    #[inline(always)]
    fn about(mut self, request: &Ask<'_>) -> Self {
        match *request {
            Request::Object { name, needed } => {
                self.kind = ObjectKind::Name;
                self.needed = needed.0;
                self.name = Some(*name);
            }
            Request::Unnamed { name, needed, .. } => {
                self.kind = ObjectKind::Unnamed;
                self.needed = needed.0;
                self.name = Some(*name);
            }
            Request::AnonymousExec => self.kind = ObjectKind::Memory,
            Request::Address { address, port, flow } => {
                self.kind = ObjectKind::Address;
                self.address = address;
                self.port = u32::from(port);
                self.detail = flow.0;
            }
            Request::Socket { family, raw } => {
                self.kind = ObjectKind::Socket;
                self.detail = family;
                self.port = u32::from(raw);
            }
            Request::Privilege(privilege) => {
                self.kind = ObjectKind::Privilege;
                self.detail = u32::from(privilege.code());
            }
        }
        self
    }
}

/// Turns a decision or a fault into what the kernel is told. Everything that is refused, or would be, is counted and
/// reported; whether the report finds room changes nothing.
#[inline(always)]
fn conclude(subject: &Subject, report: &Report) -> i32 {
    // A mode this program does not know is no permission.
    let mode = Mode::from_code(subject.head.modes[report.point.family.code() as usize]).unwrap_or(Mode::Enforce);
    let outcome = outcome(mode, report.decision);
    if outcome.report {
        count(if outcome.refuse { Counter::Denied } else { Counter::Audited });
        if report.decision.is_err() {
            count(Counter::Faults);
        }
        if send(subject, report, mode, outcome.refuse).is_err() {
            count(Counter::EventsLost);
        }
    }
    if outcome.refuse { REFUSED } else { PASS }
}

/// Writes the record below the object's name in scratch memory and sends it.
#[inline(never)]
fn send(subject: &Subject, report: &Report, mode: Mode, refused: bool) -> Result<(), Fault> {
    let scratch = name::scratch()?;
    let name = report.name.unwrap_or_else(|| Name::empty(scratch));
    let mut flags = if refused { flag::REFUSED } else { 0 };
    if subject.entering {
        flags |= flag::ENTERING;
    }
    let before = name.start();
    let exe_start = match subject::exe_place().and_then(|exe| name::prepend_exe(exe, before, scratch)) {
        Ok((start, truncated)) => {
            if truncated {
                flags |= flag::EXE_TRUNCATED;
            }
            start
        }
        Err(_) => {
            flags |= flag::EXE_UNKNOWN;
            before
        }
    };
    let exe_len = before.saturating_sub(exe_start);
    // A name that is too long is reported by its end.
    let name_len = name.len().min(enforcer_common::abi::PATH_MAX);
    let (reason, fault) = match report.decision {
        Ok(decision) => (decision.reason, Fault::None),
        Err(fault) => (Reason::Internal, fault),
    };
    let header = scratch.header(exe_start).ok_or(Fault::Scratch)?;
    let task = kernel::current();
    let parent = task.follow(Field::TaskRealParent);
    let ids = kernel::pid_tgid();
    // SAFETY: `header` points to room for one header in scratch memory, which is exclusively ours. Field by field, so
    // that no copy of the header lies on the 512-byte stack.
    unsafe {
        (*header).magic = MAGIC;
        (*header).flags = flags;
        (*header).boot_ns = kernel::boot_ns();
        (*header).generation = subject.maps.generation;
        (*header).cgroup = kernel::cgroup_id();
        (*header).slot = subject.slot;
        (*header).incarnation = subject.incarnation;
        (*header).pid = (ids >> 32) as u32;
        (*header).tid = ids as u32;
        (*header).ppid = parent.get::<u32>(Field::TaskTgid);
        (*header).uid = kernel::uid();
        (*header).hook = report.point.hook.code();
        (*header).family = report.point.family.code();
        (*header).mode = mode.code();
        (*header).reason = reason.code();
        (*header).fault = fault.code();
        (*header).object = report.kind.code();
        (*header).exe_len = exe_len as u16;
        (*header).name_len = name_len as u16;
        (*header).needed = report.needed;
        (*header).detail = report.detail;
        (*header).port = report.port;
        (*header).reserved = 0;
        (*header).address = report.address;
        task.embedded(Field::TaskComm).copy_to((&raw mut (*header).comm).cast(), 16)?;
        parent.embedded(Field::TaskComm).copy_to((&raw mut (*header).parent_comm).cast(), 16)?;
    }
    let size = size_of::<EventHeader>() as u32 + exe_len + name_len;
    if size > EVENT_MAX {
        return Err(Fault::Scratch);
    }
    // SAFETY: `header` is followed by the exe path and the name in scratch memory; `size` covers exactly these.
    let result = unsafe {
        aya_ebpf::helpers::generated::bpf_ringbuf_output(
            core::ptr::from_ref(&EVENTS).cast_mut().cast(),
            header.cast(),
            u64::from(size),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(Fault::Helper) }
}

/// A privileged door: passes for the host, decides for everyone under a policy.
#[inline(always)]
pub fn privilege(hook: Hook, privilege: Privilege) -> i32 {
    let point = Point::new(hook, Family::Privilege);
    point.judge(|subject| point.decide(subject, &Request::Privilege(privilege)))
}
