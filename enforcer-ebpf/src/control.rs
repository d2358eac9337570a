//! The frame of every hook: who asks, what the policy says, what the kernel is told, what is reported.
//!
//! [`conclude`] is the only function that turns a decision into an errno.

use enforcer_common::{
    abi::Counter,
    decide::{self, Request, Text},
    event::{EVENT_MAX, EventHeader, HEADER_LEN, MAGIC, ObjectKind, flag},
    field::Field,
    hook::{Hook, Privilege},
    net::socket_class,
    rights::Rights,
    verdict::{Decision, FAMILY_SLOTS, Family, Fault, Mode, Reason, Verdict, outcome},
};

use crate::{
    cache,
    kernel::{self, Raw, Typed},
    maps::EVENTS,
    name::{self, Name, Place, Pointer, Scratch, Span},
    own,
    subject::{self, Asker, Claim, Subject},
    tables::{Maps, count},
};

/// `-EPERM`.
///
/// Opaque to the compiler, which otherwise computes it as the negative of a boolean; the verifier (all kernels) loses
/// the value's range there and refuses the program.
#[inline(always)]
pub fn refused() -> i32 {
    let errno: i64;
    // SAFETY: loads a constant.
    unsafe { core::arch::asm!("{errno} = -1", errno = out(reg) errno, options(pure, nomem, nostack)) };
    errno as i32
}

/// Refuses where there is no policy to report under, as inside a workload whose policy cannot be told: nothing says that the
/// task may. The event counts as lost.
#[inline(always)]
pub fn refused_blindly() -> i32 {
    count(Counter::Faults);
    count(Counter::Denied);
    count(Counter::EventsLost);
    refused()
}

/// The hook has no objection.
pub const PASS: i32 = 0;

/// What no hook returns: the task is the host's. Opaque to the compiler, like [`refused`].
#[inline(always)]
fn is_hosts() -> i32 {
    let answer: i64;
    // SAFETY: loads a constant.
    unsafe { core::arch::asm!("{answer} = 1", answer = out(reg) answer, options(pure, nomem, nostack)) };
    answer as i32
}

/// What a hook body works with.
pub type Ask<'a> = Request<'a, Name>;

/// A control point: program, family of its mode.
#[derive(Clone, Copy)]
pub struct Point {
    pub hook: Hook,
    pub family: Family,
    /// Whether it is about something of the enforcer's own, of which no policy is asked.
    is_ours: bool,
}

impl Point {
    #[inline(always)]
    pub const fn new(hook: Hook, family: Family) -> Self {
        Self { hook, family, is_ours: false }
    }

    /// The same about something that is the enforcer's own, or is not. What follows is then refused in the same place,
    /// as there is no stack for another.
    #[inline(always)]
    pub const fn owned(self, is_ours: bool) -> Self {
        Self { is_ours, ..self }
    }

    #[inline(always)]
    fn decision(self, subject: &Subject, request: &Ask<'_>) -> Decision {
        if self.is_ours {
            return Decision::deny(Reason::Protected);
        }
        decide::decide(request, subject.head, &subject.maps)
    }

    /// Runs a hook for a task under a policy that is past its entry. The host, and launchers still setting a workload
    /// up, pass.
    #[inline(always)]
    pub fn judge(self, body: impl FnOnce(&Subject) -> i32) -> i32 {
        self.judge_unless(|_| false, body)
    }

    /// The same, but for what is allowed already.
    #[inline(always)]
    pub fn judge_unless(
        self,
        is_allowed: impl FnOnce(Claim<'_>) -> bool,
        body: impl FnOnce(&Subject) -> i32,
    ) -> i32 {
        let asker = Asker::current();
        if asker.is_host() || asker.claims(is_allowed) {
            return PASS;
        }
        asker.stand(
            || PASS,
            refused_blindly,
            |subject| {
                if subject.entering { PASS } else { body(&subject) }
            },
        )
    }

    /// As [`Point::judge`], at a point that is about what is the enforcer's own. While the daemon is sealed in, the host
    /// and launchers are refused what `is_sealed_in` says.
    #[inline(always)]
    pub fn judge_own(
        self,
        is_sealed_in: impl FnOnce() -> bool,
        about: About,
        body: impl FnOnce(&Subject) -> i32,
    ) -> i32 {
        self.judge_own_unless(|_| false, is_sealed_in, about, body)
    }

    /// The same, but for what is allowed already.
    #[inline(always)]
    pub fn judge_own_unless(
        self,
        is_allowed: impl FnOnce(Claim<'_>) -> bool,
        is_sealed_in: impl FnOnce() -> bool,
        about: About,
        body: impl FnOnce(&Subject) -> i32,
    ) -> i32 {
        let asker = Asker::current();
        if !asker.is_host() {
            if asker.claims(is_allowed) {
                return PASS;
            }
            let verdict = asker.stand(is_hosts, refused_blindly, |subject| {
                if subject.entering { is_hosts() } else { body(&subject) }
            });
            if verdict <= PASS {
                return verdict;
            }
        }
        if !own::is_sealed() || !is_sealed_in() || own::is_keeper(kernel::current()) {
            return PASS;
        }
        self.refuse_host(about)
    }

    /// Refuses the host something of the enforcer's own.
    #[inline(always)]
    pub fn refuse_host(self, about: About) -> i32 {
        report_host(about.at(self));
        refused()
    }

    /// Decides and concludes.
    #[inline(always)]
    pub fn decide(self, subject: &Subject, request: &Ask<'_>) -> i32 {
        self.conclude(subject, request, self.decision(subject, request))
    }

    /// Decides about rights on the object at a place.
    #[inline(always)]
    pub fn decide_place<P: Pointer>(
        self,
        subject: &Subject,
        place: Place<P>,
        pending: bool,
        needed: Rights,
    ) -> i32 {
        let scratch = match name::scratch() {
            Ok(scratch) => scratch,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        let span = match name::of_place(place, pending, scratch) {
            Ok(span) => span,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        self.decide_named(subject, span, scratch, needed)
    }

    /// Decides about rights on an open file, and remembers what is allowed.
    #[inline(always)]
    pub fn decide_file(self, subject: &Subject, file: Typed, needed: Rights) -> i32 {
        let scratch = match name::scratch() {
            Ok(scratch) => scratch,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        let span = match name::of_place(Place::of_file(file), false, scratch) {
            Ok(span) => span,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        self.decide_named_file(subject, file, span, scratch, needed)
    }

    /// Decides about rights on an open file that has been named, and remembers what is allowed.
    #[inline(always)]
    pub fn decide_named_file(
        self,
        subject: &Subject,
        file: Typed,
        span: Span,
        scratch: &mut Scratch,
        needed: Rights,
    ) -> i32 {
        if span.unnamed().is_some() {
            return self.decide_named(subject, span, scratch, needed);
        }
        let name = span.name(scratch);
        let request = Request::Object { name: &name, needed };
        let decision = self.decision(subject, &request);
        if matches!(decision.verdict, Verdict::Allow) {
            cache::remember(subject, file, needed, scratch);
        }
        self.conclude(subject, &request, decision)
    }

    /// Decides about rights on an object of which only the dentry is known.
    #[inline(always)]
    pub fn decide_dentry(self, subject: &Subject, dentry: Typed, needed: Rights) -> i32 {
        let scratch = match name::scratch() {
            Ok(scratch) => scratch,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        let span = match name::of_dentry(dentry.raw(), scratch) {
            Ok(span) => span,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        self.decide_named(subject, span, scratch, needed)
    }

    /// Decides about rights on the socket that is bound to a place.
    #[inline(always)]
    pub fn decide_socket(self, subject: &Subject, place: Place<Raw>, needed: Rights) -> i32 {
        let scratch = match name::scratch() {
            Ok(scratch) => scratch,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        let span = match name::of_socket(place, scratch) {
            Ok(span) => span,
            Err(fault) => return self.fault(subject, needed, fault),
        };
        self.decide_named(subject, span, scratch, needed)
    }

    /// Decides about rights on an object that has been named.
    #[inline(always)]
    pub fn decide_named(self, subject: &Subject, span: Span, scratch: &Scratch, needed: Rights) -> i32 {
        let name = span.name(scratch);
        match span.unnamed() {
            None => self.decide(subject, &Request::Object { name: &name, needed }),
            Some(why) => self.decide(subject, &Request::Unnamed { name: &name, why, needed }),
        }
    }

    /// Concludes a request whose object could not be told.
    #[inline(always)]
    pub fn fault(self, subject: &Subject, needed: Rights, fault: Fault) -> i32 {
        let decision = if self.is_ours { Decision::deny(Reason::Protected) } else { Decision::fault(fault) };
        let report = Report { kind: ObjectKind::Unnamed, needed: needed.0, ..Report::new(self, decision) };
        conclude(subject, &report)
    }

    #[inline(always)]
    pub fn conclude(self, subject: &Subject, request: &Ask<'_>, decision: Decision) -> i32 {
        // What is allowed needs no report, and writing one down takes a tenth of all.
        if !outcome(mode_of(subject, self.family), decision).report {
            return PASS;
        }
        let report = Report::new(self, decision).about(request);
        conclude(subject, &report)
    }

    /// Concludes about a program's content, in the mode that was in force together with the rules. `found` says which of
    /// the scratch memory's digests are those of the content ([`enforcer_common::event::known`]).
    #[inline(always)]
    pub fn conclude_content(
        self,
        subject: &Subject,
        name: &Name,
        found: u32,
        decision: Decision,
        mode: Mode,
    ) -> i32 {
        let report = Report {
            kind: ObjectKind::Content,
            needed: Rights::EXEC.0,
            name: Some(*name),
            detail: found,
            ..Report::new(self, decision)
        };
        conclude_in(subject, &report, mode)
    }
}

/// What the host wanted of the enforcer's own, in a word that a function can be handed.
#[derive(Clone, Copy)]
pub struct About(u64);

impl About {
    /// Rights on a file.
    #[inline(always)]
    pub const fn file(needed: Rights) -> Self {
        Self((ObjectKind::Unnamed.code() as u64) << 16 | (needed.0 as u64) << 32)
    }

    /// A privileged door.
    #[inline(always)]
    pub const fn door(privilege: Privilege) -> Self {
        Self((ObjectKind::Privilege.code() as u64) << 16 | (privilege.code() as u64) << 24)
    }

    /// Executable memory.
    #[inline(always)]
    pub const fn memory() -> Self {
        Self((ObjectKind::Memory.code() as u64) << 16)
    }

    #[inline(always)]
    const fn at(self, point: Point) -> u64 {
        self.0 | point.hook.code() as u64 | (point.family.code() as u64) << 8
    }
}

/// Counts and reports that the host was refused something of the enforcer's own, where there is no policy to report under.
///
/// A global function, see "Verifier facts" in `ARCHITECTURE.md`; the result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn report_host(about: u64) -> u32 {
    count(Counter::Denied);
    let fill = |header: *mut EventHeader| {
        let [hook, family, kind, detail, needed, more, ..] = about.to_le_bytes();
        // SAFETY: as in `write_event`.
        unsafe {
            (*header).generation = Maps::in_force().generation;
            (*header).slot = 0;
            (*header).incarnation = 0;
            (*header).hook = hook;
            (*header).family = family;
            (*header).mode = Mode::Enforce.code();
            (*header).reason = Reason::Protected.code();
            (*header).fault = Fault::None.code();
            (*header).object = kind;
            (*header).needed = u16::from_le_bytes([needed, more]);
            (*header).detail = u32::from(detail);
            (*header).port = 0;
            (&raw mut (*header).address).cast::<[u64; 2]>().write_unaligned([0; 2]);
        }
    };
    if write_event(None, flag::REFUSED, false, fill).is_err() {
        count(Counter::EventsLost);
    }
    0
}

/// What an event says about the request.
struct Report {
    point: Point,
    decision: Decision,
    kind: ObjectKind,
    needed: u16,
    detail: u32,
    port: u32,
    /// As words: a zeroed byte array would be a call of a byte-wise `memset`.
    address: [u64; 2],
    name: Option<Name>,
}

impl Report {
    #[inline(always)]
    const fn new(point: Point, decision: Decision) -> Self {
        Self {
            point,
            decision,
            kind: ObjectKind::Unnamed,
            needed: 0,
            detail: 0,
            port: 0,
            address: [0; 2],
            name: None,
        }
    }

    #[inline(always)]
    fn about(mut self, request: &Ask<'_>) -> Self {
        match *request {
            Request::Object { name, needed } => {
                self.kind = ObjectKind::Name;
                self.needed = needed.0;
                self.name = Some(*name);
            }
            // Of contents only the one program that looks at them reports; see `conclude_content`.
            Request::Content { name, .. } => {
                self.kind = ObjectKind::Name;
                self.needed = Rights::EXEC.0;
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
                self.address = words(address);
                self.port = u32::from(port);
                self.detail = flow.0;
            }
            Request::Socket { family, raw, protocol } => {
                self.kind = ObjectKind::Socket;
                self.detail = socket_class(family, protocol);
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

#[inline(always)]
const fn words(address: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

/// Turns a decision into what the kernel is told. Everything that is refused, or would be, is counted and
/// reported; whether the report finds room changes nothing.
#[inline(always)]
fn conclude(subject: &Subject, report: &Report) -> i32 {
    conclude_in(subject, report, mode_of(subject, report.point.family))
}

/// The mode of a family. One that this program does not know is no permission.
#[inline(always)]
pub fn mode_of(subject: &Subject, family: Family) -> Mode {
    // Masked, because where a family comes from memory the compiler does not know its bounds, and would panic.
    let slot = family.code() as usize & (FAMILY_SLOTS - 1);
    Mode::from_code(subject.head.modes[slot]).unwrap_or(Mode::Enforce)
}

#[inline(always)]
fn conclude_in(subject: &Subject, report: &Report, mode: Mode) -> i32 {
    let outcome = outcome(mode, report.decision);
    if outcome.report {
        count(if outcome.refuse { Counter::Denied } else { Counter::Audited });
        if report.decision.fault != Fault::None {
            count(Counter::Faults);
        }
        if send(subject, report, mode, outcome.refuse).is_err() {
            count(Counter::EventsLost);
        }
    }
    if outcome.refuse { refused() } else { PASS }
}

/// Sends a report.
#[inline(never)]
fn send(subject: &Subject, report: &Report, mode: Mode, refused: bool) -> Result<(), Fault> {
    let mut flags = if refused { flag::REFUSED } else { 0 };
    if subject.entering {
        flags |= flag::ENTERING;
    }
    let is_content = matches!(report.kind, ObjectKind::Content);
    write_event(report.name, flags, is_content, |header| {
        // SAFETY: as in `write_event`.
        unsafe {
            (*header).generation = subject.maps.generation;
            (*header).slot = subject.slot;
            (*header).incarnation = subject.incarnation;
            (*header).hook = report.point.hook.code();
            (*header).family = report.point.family.code();
            (*header).mode = mode.code();
            (*header).reason = report.decision.reason.code();
            (*header).fault = report.decision.fault.code();
            (*header).object = report.kind.code();
            (*header).needed = report.needed;
            (*header).detail = report.detail;
            (*header).port = report.port;
            (&raw mut (*header).address).cast::<[u64; 2]>().write_unaligned(report.address);
        }
    })
}

/// Writes the record below the object's name in scratch memory and sends it. `fill` writes what the decision was.
#[inline(always)]
fn write_event(
    name: Option<Name>,
    flags: u32,
    is_content: bool,
    fill: impl FnOnce(*mut EventHeader),
) -> Result<(), Fault> {
    let scratch = name::scratch()?;
    let name = name.unwrap_or_else(|| Name::empty(scratch));
    let mut flags = flags;
    let before = name.start();
    let exe = write_exe(before);
    flags |= (exe >> 32) as u32;
    let exe_start = exe as u32;
    let exe_len = before.saturating_sub(exe_start);
    // A name that is too long is reported by its end.
    let name_len = name.len().min(enforcer_common::abi::PATH_MAX);
    let digest = Raw((&raw const scratch.digest) as u64);
    let verity = Raw((&raw const scratch.verity.digest) as u64);
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
        (*header).cgroup = kernel::cgroup_id();
        (*header).pid = (ids >> 32) as u32;
        (*header).tid = ids as u32;
        (*header).ppid = parent.get::<u32>(Field::TaskTgid);
        (*header).uid = kernel::uid();
        (*header).exe_len = exe_len as u16;
        (*header).name_len = name_len as u16;
        (*header).reserved = 0;
        if is_content {
            digest.copy_to((&raw mut (*header).digest).cast(), 32)?;
            verity.copy_to((&raw mut (*header).fsverity).cast(), 32)?;
        }
        task.embedded(Field::TaskComm).copy_to((&raw mut (*header).comm).cast(), 16)?;
        parent.embedded(Field::TaskComm).copy_to((&raw mut (*header).parent_comm).cast(), 16)?;
    }
    fill(header);
    let size = HEADER_LEN + exe_len + name_len;
    if size > EVENT_MAX {
        return Err(Fault::Scratch);
    }
    if submit(exe_start, size) == 0 { Ok(()) } else { Err(Fault::Helper) }
}

/// Writes the path of the current task's program below `before`, a place in scratch memory: where it starts, and above that
/// the event's flags about it.
///
/// A global function, see "Verifier facts" in `ARCHITECTURE.md`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_exe(before: u32) -> u64 {
    let written = name::scratch()
        .and_then(|scratch| subject::exe_place().and_then(|exe| name::prepend_exe(exe, before, scratch)));
    let (start, flags) = match written {
        Ok((start, false)) => (start, 0),
        Ok((start, true)) => (start, flag::EXE_TRUNCATED),
        Err(_) => (before, flag::EXE_UNKNOWN),
    };
    u64::from(flags) << 32 | u64::from(start)
}

/// Copies a record of `size` bytes, which starts at a place in scratch memory, into the ring. 0 if it found room.
///
/// A reservation's size must be a constant, and `bpf_ringbuf_output` would need the verifier to relate where the
/// record starts to how long it is; so the smallest of a few sizes is reserved, and what follows the record in it
/// means nothing.
///
/// A global function, as [`write_exe`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn submit(start: u32, size: u32) -> u32 {
    let Ok(scratch) = name::scratch() else { return 1 };
    let Some(header) = scratch.header(start) else { return 1 };
    // Scratch memory sticks to the task as its label does, and may be another by now.
    if kernel::loses_labels() {
        // SAFETY: room for one header, of integers.
        let (magic, exe, name) = unsafe { ((*header).magic, (*header).exe_len, (*header).name_len) };
        if magic != MAGIC || (name != 0 && !scratch.holds(start.wrapping_add(u32::from(exe)))) {
            return 1;
        }
    }
    let from = Raw(header as u64);
    let submitted = match size {
        0..=256 => submit_sized::<256>(from, size),
        257..=512 => submit_sized::<512>(from, size),
        513..=1024 => submit_sized::<1024>(from, size),
        1025..=2048 => submit_sized::<2048>(from, size),
        _ => submit_sized::<{ EVENT_MAX as usize }>(from, size),
    };
    u32::from(submitted.is_err())
}

#[inline(always)]
fn submit_sized<const ROOM: usize>(from: Raw, size: u32) -> Result<(), Fault> {
    let Some(mut room) = EVENTS.reserve::<[u8; ROOM]>(0) else {
        return Err(Fault::Helper);
    };
    let size = kernel::opaque(u64::from(size));
    if size > ROOM as u64 {
        room.discard(0);
        return Err(Fault::Helper);
    }
    // SAFETY: `size` bytes fit into the reservation.
    match unsafe { from.copy_to(room.as_mut_ptr().cast(), size as u32) } {
        Ok(()) => {
            room.submit(0);
            Ok(())
        }
        Err(fault) => {
            room.discard(0);
            Err(fault)
        }
    }
}

/// A privileged door: passes for the host, decides for everyone under a policy.
#[inline(always)]
pub fn privilege(hook: Hook, privilege: Privilege) -> i32 {
    let point = Point::new(hook, Family::Privilege);
    point.judge(|subject| point.decide(subject, &Request::Privilege(privilege)))
}
