//! Starting programs.
//!
//! Two programs sit on `bprm_check_security`. The first judges by name, and passes what is pinned to contents with a
//! note in the label that the content is due. The second, which may sleep, looks at the content of what is due, and
//! decides all over. Nothing hangs on the second running: until it has noted that the content was checked, the new
//! program cannot be mapped (see `memory`), and the next interpreter cannot start.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::{self, Content, program},
    content,
    decide::{self, Contents, Request},
    event::known,
    field::Field,
    hook::Hook,
    rights::Rights,
    verdict::{Decision, Family, Fault, Mode, Reason, Verdict},
};

use super::{
    interpreter,
    memory::{anonymous, memory_point},
    pointer,
};
use crate::{
    cache,
    control::{Ask, PASS, Point, mode_of, refused_blindly},
    kernel::{self, Typed},
    name::{self, Name, Place},
    own,
    subject::{self, Asker, Subject},
    tables::Maps,
};

const POINT: Point = Point::new(Hook::BprmCheckSecurity, Family::Exec);
const DIGEST_POINT: Point = Point::new(Hook::BprmCheckDigest, Family::Exec);

/// Judges a program. Fires for a script and again for its interpreter; both need the right. (Oldest kernel: 5.7.)
///
/// An entering task that starts a launcher goes on setting up; whatever else it starts is the workload's own, and is
/// judged although nothing else of the task was.
#[lsm(hook = "bprm_check_security")]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    let bprm = pointer(&ctx, 0);
    let file = bprm.follow(Field::BprmFile);
    let host = || {
        subject::note_launcher(file);
        if own::is_sealed() { subject::note_keeper(bprm, file) } else { PASS }
    };
    let asker = Asker::current();
    if asker.is_host() {
        return host();
    }
    asker.stand(host, refused_blindly, |subject| {
        let verdict = judge_start(subject, file);
        subject.keep();
        verdict
    })
}

#[inline(always)]
fn judge_start(mut subject: Subject, file: Typed) -> i32 {
    if subject.is_content(Content::Due) {
        // Nobody has looked at the script whose interpreter this is.
        subject.set_content(Content::Any);
        return POINT.fault(&subject, Rights::EXEC, Fault::Digest);
    }
    subject.set_content(Content::Any);
    if subject.entering {
        if subject::note_launcher(file) {
            subject.set_arming(false);
            return PASS;
        }
        subject.set_arming(true);
        // A runtime enters a container before the container is bound, and starts its program afterwards.
        if !subject.settle() {
            return POINT.fault(&subject, Rights::EXEC, Fault::Table);
        }
    }
    judge_program(&subject, file)
}

#[inline(always)]
fn judge_program(subject: &Subject, file: Typed) -> i32 {
    // The new image would have an executable heap and stack.
    if kernel::read_implies_exec() {
        let verdict = anonymous(memory_point(Hook::BprmCheckSecurity), subject);
        if verdict != PASS {
            return verdict;
        }
    }
    let has_interpreters = subject.head.content & abi::content::INTERPRETERS != 0;
    // What is remembered of a program says neither whether it is an interpreter nor what it holds; pinned programs are not
    // allowed by name, and so not remembered.
    if !has_interpreters && cache::allows(subject.claim(), file, Rights::EXEC) {
        subject.set_program(subject.program() & !program::NEXT);
        if subject.entering {
            // What is remembered the workload itself may start.
            subject.set_probing(false);
        }
        return PASS;
    }
    let place = Place::of_file(file);
    // A script comes first and its interpreter last, so what is found out last holds.
    match interpreter::is_interpreter(subject, place) {
        Ok(true) => subject.set_program(subject.program() | program::NEXT),
        Ok(false) => subject.set_program(subject.program() & !program::NEXT),
        Err(fault) => return POINT.fault(subject, Rights::EXEC, fault),
    }
    judge_by_name(subject, file)
}

/// Judges a question: an interpreter asks whether the kernel would start the script that it was told to run, and takes
/// no for an answer. (Oldest kernel: 5.8; the question exists since 6.14.)
#[lsm(hook = "bprm_creds_for_exec")]
pub fn bprm_creds_for_exec(ctx: LsmContext) -> i32 {
    let bprm = pointer(&ctx, 0);
    if !bprm.bit(Field::BprmIsCheck) {
        return PASS;
    }
    let point = Point::new(Hook::BprmCredsForExec, Family::Exec);
    point.judge(|subject| {
        let place = Place::of_file(bprm.follow(Field::BprmFile));
        point.decide_place(subject, place, false, Rights::CODE)
    })
}

/// As [`Point::decide_file`], but leaves pinned programs to [`bprm_check_digest`], and lets who enters from outside start
/// what is listed for probes.
#[inline(always)]
fn judge_by_name(subject: &Subject, file: Typed) -> i32 {
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return POINT.fault(subject, Rights::EXEC, fault),
    };
    let span = match name::of_place(Place::of_file(file), false, scratch) {
        Ok(span) => span,
        Err(fault) => return POINT.fault(subject, Rights::EXEC, fault),
    };
    let name = span.name(scratch);
    let (unnamed, needed) = (span.unnamed(), subject.needed_to_start());
    let decision = decide::decide(&request_to_start(&name, unnamed, needed), subject.head, &subject.maps);
    let as_probe = matches!(decision.verdict, Verdict::Allow) && matches!(decision.reason, Reason::Probe);
    if subject.entering {
        subject.set_probing(as_probe);
    }
    if as_probe {
        // Nobody but `execve` may map it.
        subject.set_content(Content::Checked);
        return PASS;
    }
    if matches!(decision.reason, Reason::Digest) {
        scratch.keep(span);
        subject.set_content(Content::Due);
        return PASS;
    }
    if unnamed.is_none() && matches!(decision.verdict, Verdict::Allow) {
        cache::remember(subject, file, Rights::EXEC, scratch);
    }
    // Whoever starts it, it is a program.
    POINT.conclude(subject, &request_to_start(&name, unnamed, Rights::EXEC), decision)
}

#[inline(always)]
fn request_to_start(name: &Name, unnamed: Option<Reason>, needed: Rights) -> Ask<'_> {
    match unnamed {
        None => Request::Object { name, needed },
        Some(why) => Request::Unnamed { name, why, needed },
    }
}

/// How often to decide when policies change under a decision. One takes microseconds, a change milliseconds. Two, because
/// each is verified by itself: 6.1 gives up at four, and 7.3 takes more than half a gigabyte for a loop around them.
const ROUNDS: u32 = 2;

/// Judges the content of a pinned program: its fs-verity digest, or the SHA-256 of the whole file, as the kernel's IMA
/// reads it now.
///
/// The first comes for nothing, so the file is only read if the first does not decide, and the policy pins anything to the
/// second.
///
/// From the check until the program ends nobody can write to the file: `execve` denies write access before this hook
/// and fails if somebody has it (`ETXTBSY`); the same goes for `truncate` and shared writable mappings. A script's file
/// is free again once the interpreter runs. (Oldest kernel: 5.19, for the helpers.)
#[lsm(hook = "bprm_check_security", sleepable)]
pub fn bprm_check_digest(ctx: LsmContext) -> i32 {
    if !subject::is_content_due() {
        return PASS;
    }
    let file = pointer(&ctx, 0).follow(Field::BprmFile);
    // Untold, also because 6.1 would not get to the end if it followed what comes after for each value.
    let any = Maps::in_force().generation;
    let mut seen = kernel::untold(u64::from(look_at_verity(file)), any) as u32;
    let mut answer = settle(seen);
    if answer.0 == Answer::UNREAD.0 {
        seen = kernel::untold(u64::from(seen | read(file)), any) as u32;
        answer = settle(seen);
    }
    // Whatever comes of it, nothing is due any more; only a start that goes on is noted.
    subject::forget_content();
    // Without a label that leads to a policy, the operator removed the policy meanwhile.
    subject::with_label(PASS, refused_blindly, |subject| conclude_content(subject, seen, answer))
}

/// Judges until policies hold still.
#[inline(always)]
fn settle(seen: u32) -> Answer {
    let mut answer = Answer::UNSETTLED;
    for _ in 0..ROUNDS {
        answer = Answer(judge_content(seen));
        if answer.0 != Answer::UNSETTLED.0 {
            break;
        }
    }
    answer
}

/// What is known of a content, as bits: those of [`known`], and these.
mod seen {
    /// The file was read, or would have been.
    pub const TRIED: u32 = 1 << 8;
    /// What is read would not be true a moment later.
    pub const UNVERIFIABLE: u32 = 1 << 9;
}

/// The fs-verity digest, into scratch memory. [`known`] bits.
#[inline(always)]
fn look_at_verity(file: Typed) -> u32 {
    let Ok(scratch) = name::scratch() else { return 0 };
    if kernel::fsverity(file, &mut scratch.verity) { known::FSVERITY } else { 0 }
}

/// The SHA-256 of the whole file, into scratch memory. [`known`] and [`seen`] bits.
#[inline(always)]
fn read(file: Typed) -> u32 {
    let Ok(scratch) = name::scratch() else { return seen::TRIED };
    let magic = file.follow(Field::FileInode).follow(Field::InodeSb).get::<u64>(Field::SbMagic);
    if !content::is_stable(magic) {
        seen::TRIED | seen::UNVERIFIABLE
    } else if kernel::sha256(file, &mut scratch.digest) {
        seen::TRIED | known::SHA256
    } else {
        seen::TRIED
    }
}

#[inline(always)]
fn conclude_content(subject: &Subject, seen: u32, answer: Answer) -> i32 {
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return DIGEST_POINT.fault(subject, Rights::EXEC, fault),
    };
    let name = scratch.kept().name(scratch);
    // A policy that does not go by fs-verity digests has no use for them.
    let verity = if subject.head.content & abi::content::VERITY_PINS == 0 { 0 } else { known::FSVERITY };
    let found = seen & (known::SHA256 | verity);
    let verdict = DIGEST_POINT.conclude_content(subject, &name, found, answer.decision(), answer.mode());
    if verdict == PASS {
        subject.set_content(Content::Checked);
        subject.keep();
    }
    verdict
}

/// Decides about the program whose name was kept, in one generation. [`Answer`] as a number, which fits a register.
///
/// Out of line: it is called again and again, and has the stack to itself.
#[inline(never)]
fn judge_content(seen: u32) -> u64 {
    subject::with_label(
        Answer::UNSETTLED.0,
        || Answer::UNSETTLED.0,
        |subject| {
            let Ok(scratch) = name::scratch() else {
                return Answer::UNSETTLED.0;
            };
            let name = scratch.kept().name(scratch);
            let contents =
                Contents { known: seen, sha256: &scratch.digest, fsverity: &scratch.verity.digest };
            let request = Request::Content { name: &name, contents };
            let decision = decide::decide(&request, subject.head, &subject.maps);
            let mode = mode_of(subject, Family::Exec);
            let reading_helps = subject.head.content & abi::content::PINS != 0;
            if !subject.maps.is_in_force() {
                return Answer::UNSETTLED.0;
            }
            if !matches!(decision.reason, Reason::Digest) || !reading_helps || seen & known::SHA256 != 0 {
                return Answer::of(decision, mode).0;
            }
            let decision = if seen & seen::TRIED == 0 {
                return Answer::UNREAD.0;
            } else if seen & seen::UNVERIFIABLE != 0 {
                Decision::deny(Reason::Unverifiable)
            } else {
                Decision::fault(Fault::Digest)
            };
            Answer::of(decision, mode).0
        },
    )
}

/// A decision and its mode.
#[derive(Clone, Copy)]
struct Answer(u64);

impl Answer {
    /// No generation stayed in force long enough. Refused in enforce mode, like every fault.
    const UNSETTLED: Self = Self(u64::MAX);
    /// It hangs on the SHA-256 of the file, which has not been read.
    const UNREAD: Self = Self(u64::MAX - 1);

    #[inline(always)]
    const fn of(decision: Decision, mode: Mode) -> Self {
        let parts = [decision.verdict.code(), decision.reason.code(), decision.fault.code(), mode.code()];
        Self(u32::from_le_bytes(parts) as u64)
    }

    #[inline(always)]
    fn decision(self) -> Decision {
        let [verdict, reason, fault, _] = (self.0 as u32).to_le_bytes();
        let fallback = Decision::fault(Fault::Unsettled);
        if self.0 >= Self::UNREAD.0 {
            return fallback;
        }
        Decision {
            verdict: Verdict::from_code(verdict).unwrap_or(fallback.verdict),
            reason: Reason::from_code(reason).unwrap_or(fallback.reason),
            fault: Fault::from_code(fault).unwrap_or(fallback.fault),
            rule: Decision::NO_RULE,
        }
    }

    #[inline(always)]
    fn mode(self) -> Mode {
        let [.., mode] = (self.0 as u32).to_le_bytes();
        Mode::from_code(mode).unwrap_or(Mode::Enforce)
    }
}
