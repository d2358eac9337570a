//! Starting programs.
//!
//! Two programs sit on `bprm_check_security`. The first judges by name, and passes what is pinned to contents with a
//! note in the label that the content is due. The second, which may sleep, looks at the content of what is due, and
//! decides all over. Nothing hangs on the second running: until it has noted that the content was checked, the new
//! program cannot be mapped (see `memory`), and the next interpreter cannot start.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::{Content, Digest, program},
    content,
    decide::{self, Request},
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
    control::{PASS, Point, mode_of},
    kernel,
    name::{self, Place},
    subject::{self, Standing, Subject},
};

const POINT: Point = Point::new(Hook::BprmCheckSecurity, Family::Exec);
const DIGEST_POINT: Point = Point::new(Hook::BprmCheckDigest, Family::Exec);

/// Judges a program. Fires for a script and again for its interpreter; both need the right. (Oldest kernel: 5.7.)
///
/// An entering task that starts a launcher goes on setting up; whatever else it starts is the workload's own, and is
/// judged although nothing else of the task was.
#[lsm(hook = "bprm_check_security")]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    let file = pointer(&ctx, 0).follow(Field::BprmFile);
    match subject::current() {
        Ok(Standing::Host) => {
            subject::note_launcher(file);
            PASS
        }
        Ok(Standing::Workload(subject)) => {
            if subject.is_content(Content::Due) {
                // Nobody has looked at the script whose interpreter this is.
                subject.set_content(Content::Any);
                return POINT.fault(&subject, Rights::EXEC, Fault::Digest);
            }
            subject.set_content(Content::Any);
            let mut subject = subject;
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
            judge_program(&subject, Place::of_file(file))
        }
        Err(fault) => POINT.stranded(fault),
    }
}

#[inline(always)]
fn judge_program(subject: &Subject, place: Place) -> i32 {
    // The new image would have an executable heap and stack.
    if kernel::read_implies_exec() {
        let verdict = anonymous(memory_point(Hook::BprmCheckSecurity), subject);
        if verdict != PASS {
            return verdict;
        }
    }
    // A script comes first and its interpreter last, so what is found out last holds.
    match interpreter::is_interpreter(subject, place) {
        Ok(true) => subject.set_program(subject.program() | program::NEXT),
        Ok(false) => subject.set_program(subject.program() & !program::NEXT),
        Err(fault) => return POINT.fault(subject, Rights::EXEC, fault),
    }
    judge_by_name(subject, place)
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

/// As [`Point::decide_place`], but leaves pinned programs to [`bprm_check_digest`].
#[inline(always)]
fn judge_by_name(subject: &Subject, place: Place) -> i32 {
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return POINT.fault(subject, Rights::EXEC, fault),
    };
    let span = match name::of_place(place, false, scratch) {
        Ok(span) => span,
        Err(fault) => return POINT.fault(subject, Rights::EXEC, fault),
    };
    let name = span.name(scratch);
    let request = match span.unnamed() {
        None => Request::Object { name: &name, needed: Rights::EXEC },
        Some(why) => Request::Unnamed { name: &name, why, needed: Rights::EXEC },
    };
    let decision = decide::decide(&request, subject.head, &subject.maps);
    if matches!(decision.reason, Reason::Digest) {
        scratch.keep(span);
        subject.set_content(Content::Due);
        return PASS;
    }
    POINT.conclude(subject, &request, decision)
}

/// How often to decide anew when policies change under a decision. One takes microseconds, a change milliseconds.
const ROUNDS: u32 = 4;

/// Judges the content of a pinned program: the SHA-256 of the whole file, as the kernel's IMA reads it now.
///
/// From the check until the program ends nobody can write to the file: `execve` denies write access before this hook
/// and fails if somebody has it (`ETXTBSY`); the same goes for `truncate` and shared writable mappings. A script's file
/// is free again once the interpreter runs. (Oldest kernel: 5.18, for the helper.)
#[lsm(hook = "bprm_check_security", sleepable)]
pub fn bprm_check_digest(ctx: LsmContext) -> i32 {
    if !subject::is_content_due() {
        return PASS;
    }
    let file = pointer(&ctx, 0).follow(Field::BprmFile);
    let magic = file.follow(Field::FileInode).follow(Field::InodeSb).get::<u64>(Field::SbMagic);
    let mut digest = [0; 4];
    let seen = if !content::is_stable(magic) {
        Seen::Unverifiable
    } else if kernel::sha256(file, &mut digest) {
        Seen::Digest
    } else {
        Seen::Nothing
    };
    let mut answer = Answer::UNSETTLED;
    for _ in 0..ROUNDS {
        answer = Answer(judge_content(&digest, seen as u32));
        if answer.0 != Answer::UNSETTLED.0 {
            break;
        }
    }
    // Whatever comes of it, nothing is due any more; only a start that goes on is noted.
    subject::forget_content();
    // Without a label that leads to a policy, the operator removed the policy meanwhile.
    subject::with_label(
        PASS,
        || DIGEST_POINT.stranded(Fault::Table),
        |subject| conclude_content(subject, &digest, seen, answer),
    )
}

#[inline(always)]
fn conclude_content(subject: &Subject, digest: &Digest, seen: Seen, answer: Answer) -> i32 {
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return DIGEST_POINT.fault(subject, Rights::EXEC, fault),
    };
    scratch.digest = *digest;
    let name = scratch.kept().name(scratch);
    let found = matches!(seen, Seen::Digest);
    let verdict = DIGEST_POINT.conclude_content(subject, &name, found, answer.decision(), answer.mode());
    if verdict == PASS {
        subject.set_content(Content::Checked);
    }
    verdict
}

/// What is known of a content.
#[derive(Clone, Copy)]
enum Seen {
    /// Its digest.
    Digest = 0,
    /// Nothing: the kernel could not or would not compute it.
    Nothing = 1,
    /// Nothing that would still be true a moment later.
    Unverifiable = 2,
}

/// Decides about the program whose name was kept, in one generation. [`Answer`] as a number, which fits a register.
///
/// Out of line: it is called again and again, and has the stack to itself.
#[inline(never)]
fn judge_content(digest: &Digest, seen: u32) -> u64 {
    subject::with_label(
        Answer::UNSETTLED.0,
        || Answer::UNSETTLED.0,
        |subject| {
            let Ok(scratch) = name::scratch() else {
                return Answer::UNSETTLED.0;
            };
            let name = scratch.kept().name(scratch);
            let known = seen == Seen::Digest as u32;
            let request = if known {
                Request::Content { name: &name, digest: *digest }
            } else {
                Request::Object { name: &name, needed: Rights::EXEC }
            };
            let decision = decide::decide(&request, subject.head, &subject.maps);
            let mode = mode_of(subject, Family::Exec);
            if !subject.maps.is_in_force() {
                return Answer::UNSETTLED.0;
            }
            let decision = match decision.reason {
                Reason::Digest if seen == Seen::Unverifiable as u32 => Decision::deny(Reason::Unverifiable),
                Reason::Digest if !known => Decision::fault(Fault::Digest),
                _ => decision,
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

    #[inline(always)]
    const fn of(decision: Decision, mode: Mode) -> Self {
        let parts = [decision.verdict.code(), decision.reason.code(), decision.fault.code(), mode.code()];
        Self(u32::from_le_bytes(parts) as u64)
    }

    #[inline(always)]
    fn decision(self) -> Decision {
        let [verdict, reason, fault, _] = (self.0 as u32).to_le_bytes();
        let fallback = Decision::fault(Fault::Unsettled);
        if self.0 == Self::UNSETTLED.0 {
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
