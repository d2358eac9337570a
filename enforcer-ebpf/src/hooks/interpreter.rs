//! Interpreters: programs whose input is code.
//!
//! An interpreter is told what to run by its arguments, and then opens it. Both are judged: options before the script
//! must be listed (`-c` hands over code, and `-` reads it from standard input), and until the script has been opened,
//! whatever the interpreter reads must be listed as code. After that its script decides what it reads, but files that
//! look like modules still have to be listed.
//!
//! The arguments lie on the new program's stack, where they cannot change before it runs: the old image and its other
//! threads are gone, and the new one has not run an instruction.

use core::ops::ControlFlow;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::{ExactKey, content, program},
    decide::{self, Request, Step, Tables, Text},
    field::Field,
    hash::Sip,
    hook::Hook,
    rights::Rights,
    verdict::{Family, Fault},
};

use super::pointer;
use crate::{
    control::{PASS, Point},
    kernel::{self, Raw},
    name::{self, Name, Place, Scratch, Span},
    subject::{Asker, Standing, Subject},
    tables::repeat,
};

/// Most arguments that are looked at. A script behind more options than that is refused.
const MAX_ARGUMENTS: u32 = 64;
/// Longest option that can be listed, in words of eight bytes.
const OPTION_WORDS: u32 = 8;

/// Whether the program at `place` is an interpreter.
///
/// Out of line, for the stack's sake.
#[inline(never)]
pub fn is_interpreter(subject: &Subject, place: Place) -> Result<bool, Fault> {
    if subject.head.content & content::INTERPRETERS == 0 {
        return Ok(false);
    }
    let scratch = name::scratch()?;
    let span = name::of_place(place, false, scratch)?;
    let grant = decide::granted(&span.name(scratch), Rights::INTERPRETER, subject.head, &subject.maps)?;
    Ok(grant.rights().contains(Rights::INTERPRETER))
}

/// Arms the label of a task that has started the workload's program, and judges the arguments of an interpreter. Runs
/// after the point of no return and before the new image is mapped. (Oldest kernel: 5.7.)
#[lsm(hook = "bprm_committed_creds")]
pub fn bprm_committed_creds(ctx: LsmContext) -> i32 {
    let mut asker = Asker::current();
    asker.commit();
    if asker.is_host() {
        return PASS;
    }
    let Ok(Standing::Workload(subject)) = asker.standing() else {
        return PASS;
    };
    if !subject.entering {
        // Judged by `bprm_creds_from_file`; else we were not here.
        subject.forget_inheritance();
    }
    if subject.program() & program::NEXT == 0 {
        subject.set_program(subject.program() & program::RUNS_LAUNCHER);
        return PASS;
    }
    subject.set_program(program::INTERPRETER | program::SEEKING);
    let bprm = pointer(&ctx, 0);
    if judge_arguments(&subject, bprm.get(Field::BprmP), bprm.get(Field::BprmArgc)) != PASS {
        // This hook cannot refuse; the mapping of the new image, which comes next, can.
        subject.set_program(program::INTERPRETER | program::REFUSED);
    }
    PASS
}

#[inline(always)]
fn judge_arguments(subject: &Subject, first: u64, count: u32) -> i32 {
    let point = Point::new(Hook::BprmCommittedCreds, Family::Exec);
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return point.fault(subject, Rights::CODE, fault),
    };
    let mut arguments =
        Arguments { subject, scratch, at: first, count, len: 0, status: Arguments::NONE, fault: Fault::None };
    repeat(MAX_ARGUMENTS, &mut arguments);
    let (status, fault, len) = (arguments.status, arguments.fault, arguments.len);
    if status == Arguments::FAULT {
        return point.fault(subject, Rights::CODE, fault);
    }
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return point.fault(subject, Rights::CODE, fault),
    };
    let name = if status == Arguments::NONE { name::dash(scratch) } else { name::forward_text(scratch, len) };
    if status == Arguments::SCRIPT {
        return match decide::hash_of_name(&name.last_component(), &subject.maps) {
            Ok([script, _]) => {
                subject.set_script(script);
                PASS
            }
            Err(fault) => point.fault(subject, Rights::CODE, fault),
        };
    }
    point.decide(subject, &Request::Object { name: &name, needed: Rights::CODE })
}

/// Goes through the arguments up to the script.
struct Arguments<'a> {
    subject: &'a Subject,
    scratch: &'a mut Scratch,
    at: u64,
    count: u32,
    /// Length of the argument in scratch memory.
    len: u32,
    status: u32,
    fault: Fault,
}

impl Arguments<'_> {
    /// There is no script: code comes from standard input.
    const NONE: u32 = 0;
    /// The script's name is in scratch memory.
    const SCRIPT: u32 = 1;
    /// An option that is not listed is in scratch memory.
    const UNLISTED: u32 = 2;
    const FAULT: u32 = 3;

    #[inline(always)]
    fn argument(&mut self, index: u32) -> Result<ControlFlow<()>, Fault> {
        if index >= self.count {
            return Ok(ControlFlow::Break(()));
        }
        let span = name::of_user_string(self.at, self.scratch)?;
        let argument = span.name(self.scratch);
        self.at += u64::from(argument.len()) + 1;
        self.len = argument.len();
        if index == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        if argument.byte(0) != b'-' {
            self.status = Self::SCRIPT;
            return Ok(ControlFlow::Break(()));
        }
        if !is_listed(self.subject, &argument)? || index + 1 == MAX_ARGUMENTS {
            self.status = Self::UNLISTED;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Step for Arguments<'_> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        match self.argument(index) {
            Ok(flow) => flow,
            Err(fault) => {
                self.status = Self::FAULT;
                self.fault = fault;
                ControlFlow::Break(())
            }
        }
    }
}

/// Whether an option is listed. Options are exact names; those that are too long for the loop are in no policy.
#[inline(always)]
fn is_listed(subject: &Subject, option: &Name) -> Result<bool, Fault> {
    let len = option.len();
    if len > OPTION_WORDS * 8 {
        return Ok(false);
    }
    let mut sip = Sip::new(subject.maps.hash_key());
    for index in 0..OPTION_WORDS {
        if index * 8 >= len {
            break;
        }
        sip.word(option.word(index).ok_or(Fault::KernelRead)?);
    }
    let key = ExactKey { table: subject.head.table, len, hash: sip.finish(len) };
    Ok(subject.maps.exact(&key).is_some_and(|grant| grant.rights().contains(Rights::CODE)))
}

/// What an interpreter that opens a file for reading needs besides.
///
/// Out of line, for the stack's sake.
#[inline(never)]
pub fn needed_to_open(program: u32, span: &Span, scratch: &Scratch) -> u16 {
    let is_code = program & program::SEEKING != 0 || decide::is_code_name(&span.name(scratch));
    if is_code { Rights::CODE.0 } else { 0 }
}

/// Notes that an interpreter may open a file: if that is its script, it goes on with less scrutiny.
#[inline(always)]
pub fn opened(subject: &Subject, program: u32, dentry: Raw) {
    if program & program::SEEKING != 0 && is_script(subject, dentry) {
        subject.set_program(program::INTERPRETER);
    }
}

/// Whether a file that was allowed is the script that the arguments named.
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn is_script(subject: &Subject, dentry: Raw) -> bool {
    let Ok(scratch) = name::scratch() else {
        return false;
    };
    let Ok(span) = name::of_dentry_alone(dentry, scratch) else {
        return false;
    };
    match decide::hash_of_name(&span.name(scratch), &subject.maps) {
        Ok([hash, _]) => hash == subject.script(),
        Err(_) => false,
    }
}

/// Whether a task that runs this must not map its new image, because its arguments were refused.
#[inline(always)]
pub fn is_refused(program: u32) -> bool {
    kernel::opaque(u64::from(program & program::REFUSED)) != 0
}
