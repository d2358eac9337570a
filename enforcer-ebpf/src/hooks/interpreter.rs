//! Interpreters: programs whose input is code.
//!
//! An interpreter is told what to run by its arguments, and then opens it. Both are judged: options before the script
//! must be listed (`-c` hands over code, and `-` reads it from standard input), and until the script has been opened,
//! whatever the interpreter reads must be listed as code. After that its script decides what it reads, but files that
//! look like modules still have to be listed. So must be those variables of its environment that carry code, or lead to
//! some ([`environment`]).
//!
//! Arguments and environment lie on the new program's stack, one string behind the other, where they cannot change
//! before it runs: the old image and its other threads are gone, and the new one has not run an instruction.

use core::ops::ControlFlow;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::{content, program},
    decide::{self, Request, Step, Text},
    environment,
    field::Field,
    hook::Hook,
    rights::Rights,
    verdict::{Family, Fault},
};

use super::pointer;
use crate::{
    control::{PASS, Point},
    kernel::{self, Raw, Typed},
    name::{self, Place, Scratch, Span, Strings},
    subject::{Asker, Subject},
    tables::repeat,
};

/// Most arguments that are looked at. A script behind more options than that is refused.
const MAX_ARGUMENTS: u32 = 64;
/// Most strings on the stack that are gone through, pieces of long ones counted. An interpreter with more than that is
/// refused: it takes over a hundred thousand arguments or variables, or half a gigabyte of them.
const MAX_PIECES: u32 = 1 << 17;
/// Longest option that can be listed, in bytes.
const OPTION_MAX: u32 = 64;

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
    // This hook cannot refuse, and what cannot be told here is refused by the next one.
    asker.stand(
        || PASS,
        || PASS,
        |subject| {
            note_program(&subject, pointer(&ctx, 0));
            subject.keep();
            PASS
        },
    )
}

/// Notes what an armed task runs from now on.
#[inline(always)]
fn note_program(subject: &Subject, bprm: Typed) {
    if !subject.entering {
        // Judged by `bprm_creds_from_file`; else we were not here.
        subject.forget_inheritance();
    }
    if subject.program() & program::NEXT == 0 {
        subject.set_program(subject.program() & program::RUNS_LAUNCHER);
        return;
    }
    subject.set_program(program::INTERPRETER | program::SEEKING);
    let strings = Strings {
        at: bprm.get(Field::BprmP),
        count: bprm.get(Field::BprmArgc),
        arguments: bprm.get(Field::BprmArgc),
        variables: bprm.get(Field::BprmEnvc),
        len: 0,
        is_inside: 0,
        reserved: 0,
    };
    if judge_arguments(subject, strings) != PASS || judge_environment(subject) != PASS {
        // This hook cannot refuse; the mapping of the new image, which comes next, can.
        subject.set_program(program::INTERPRETER | program::REFUSED);
    }
}

const POINT: Point = Point::new(Hook::BprmCommittedCreds, Family::Exec);

/// Judges the arguments up to the script, and goes past them.
#[inline(always)]
fn judge_arguments(subject: &Subject, strings: Strings) -> i32 {
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return POINT.fault(subject, Rights::CODE, fault),
    };
    scratch.strings = strings;
    let found = find_script(subject);
    judge_script(subject, found)
}

/// Concludes about the arguments, by what [`Arguments`] has come to and what it has left in scratch memory.
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn judge_script(subject: &Subject, found: Result<u32, Fault>) -> i32 {
    let (status, scratch) = match found.and_then(|status| Ok((status, name::scratch()?))) {
        Ok(found) => found,
        Err(fault) => return POINT.fault(subject, Rights::CODE, fault),
    };
    let name = if status == Arguments::NONE {
        name::dash(scratch)
    } else {
        name::forward_text(scratch, scratch.strings.len)
    };
    if status == Arguments::SCRIPT {
        return match decide::hash_of_name(&name.last_component(), &subject.maps) {
            Ok([script, _]) => {
                subject.set_script(script);
                PASS
            }
            Err(fault) => POINT.fault(subject, Rights::CODE, fault),
        };
    }
    POINT.decide(subject, &Request::Object { name: &name, needed: Rights::CODE })
}

/// Goes through the arguments up to the script, or to what stands in its place: status of [`Arguments`].
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn find_script(subject: &Subject) -> Result<u32, Fault> {
    let scratch = name::scratch()?;
    scratch.strings.check()?;
    let mut arguments = Arguments { subject, scratch, status: Arguments::NONE, fault: Fault::None };
    repeat(MAX_ARGUMENTS, &mut arguments);
    if arguments.status == Arguments::FAULT { Err(arguments.fault) } else { Ok(arguments.status) }
}

/// Goes through the arguments up to the script.
struct Arguments<'a> {
    subject: &'a Subject,
    scratch: &'a mut Scratch,
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
        if self.scratch.strings.arguments == 0 {
            return Ok(ControlFlow::Break(()));
        }
        // The program's own name says nothing. It may be of any length, and what follows a piece of it is no argument.
        let is_own_name = self.scratch.strings.arguments == self.scratch.strings.count;
        let span = name::of_user_string(self.scratch.strings.at, self.scratch)?;
        let argument = span.name(self.scratch);
        self.scratch.strings.pass(argument.len());
        if !is_own_name && argument.byte(0) != b'-' {
            self.status = Self::SCRIPT;
            return Ok(ControlFlow::Break(()));
        }
        if (!is_own_name && !is_listed(self.subject, self.scratch, &span)?) || index + 1 == MAX_ARGUMENTS {
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

/// Judges the environment, which lies behind the arguments that are left.
#[inline(always)]
fn judge_environment(subject: &Subject) -> i32 {
    let found = find_unlisted(subject);
    if matches!(found, Ok(0)) { PASS } else { judge_variable(subject, found) }
}

/// Concludes about a variable whose name is in scratch memory.
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn judge_variable(subject: &Subject, found: Result<u32, Fault>) -> i32 {
    let named = found.and_then(|len| Ok(name::forward_text(name::scratch()?, len)));
    match named {
        Ok(name) => POINT.decide(subject, &Request::Object { name: &name, needed: Rights::CODE }),
        Err(fault) => POINT.fault(subject, Rights::CODE, fault),
    }
}

/// Leaves the first variable that has to be listed and is not in scratch memory. Length of its name; 0 if there is none.
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn find_unlisted(subject: &Subject) -> Result<u32, Fault> {
    let scratch = name::scratch()?;
    scratch.strings.check()?;
    let mut variables = Variables { subject, scratch, status: Variables::UNFINISHED, fault: Fault::Walk };
    repeat(MAX_PIECES, &mut variables);
    match variables.status {
        Variables::LISTED => Ok(0),
        Variables::UNLISTED => Ok(variables.scratch.strings.len),
        _ => Err(variables.fault),
    }
}

/// Goes through the rest of the arguments and the environment up to a variable that is not listed.
struct Variables<'a> {
    subject: &'a Subject,
    scratch: &'a mut Scratch,
    status: u32,
    fault: Fault,
}

impl Variables<'_> {
    /// There are more strings than are looked at, or one cannot be read.
    const UNFINISHED: u32 = 0;
    /// The interpreter may start with all of them.
    const LISTED: u32 = 1;
    /// A variable that is not listed is in scratch memory.
    const UNLISTED: u32 = 2;

    #[inline(always)]
    fn piece(&mut self) -> Result<ControlFlow<()>, Fault> {
        let (arguments, variables) = (self.scratch.strings.arguments, self.scratch.strings.variables);
        if arguments == 0 && variables == 0 {
            self.status = Self::LISTED;
            return Ok(ControlFlow::Break(()));
        }
        let span = name::of_user_variable(self.scratch.strings.at, self.scratch)?;
        let len = span.name(self.scratch).len() - 1;
        if arguments != 0 {
            self.scratch.strings.pass(len);
            return Ok(ControlFlow::Continue(()));
        }
        if self.scratch.strings.is_inside == 0 {
            let unlisted = unlisted(self.subject, self.scratch, &span)?;
            if unlisted != 0 {
                self.scratch.strings.len = unlisted;
                self.status = Self::UNLISTED;
                return Ok(ControlFlow::Break(()));
            }
        }
        self.scratch.strings.pass_variable(len);
        Ok(ControlFlow::Continue(()))
    }
}

impl Step for Variables<'_> {
    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        match self.piece() {
            Ok(flow) => flow,
            Err(fault) => {
                self.fault = fault;
                ControlFlow::Break(())
            }
        }
    }
}

/// Length of the name of a variable that has to be listed and is not; 0 of all others.
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn unlisted(subject: &Subject, scratch: &Scratch, variable: &Span) -> Result<u32, Fault> {
    environment::unlisted(&variable.name(scratch), subject.head, &subject.maps)
}

/// Whether an option is listed. Those that are too long are in no policy.
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn is_listed(subject: &Subject, scratch: &Scratch, option: &Span) -> Result<bool, Fault> {
    let option = option.name(scratch);
    Ok(option.len() <= OPTION_MAX && decide::is_listed_code(&option, subject.head, &subject.maps)?)
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
