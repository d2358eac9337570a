//! Descriptors that the first program of a workload is started with.
//!
//! Whoever opened them was outside, and reading and writing pass no hook that could be afforded. So each must be one that
//! the program could have opened itself, and signal nobody outside. What it opens, or receives, later is judged then, and
//! its children inherit no more than that.

use core::ops::ControlFlow;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    decide::Step,
    field::Field,
    hook::Hook,
    rights::Rights,
    verdict::{Family, Fault},
};

use super::file::{has_content, judge_handed_owner, needed_by_mode};
use crate::{
    control::{PASS, Point, refused, refused_blindly},
    kernel::{self, Raw},
    name::{self, Place},
    subject::{Asker, Subject},
    tables::repeat,
};

const POINT: Point = Point::new(Hook::BprmCredsFromFile, Family::File);
/// Most descriptors, counted up to the highest, that are looked at. A task with more may not start a program.
const MAX_DESCRIPTORS: u32 = 1 << 16;

/// Judges what a task from outside brings along. Fires once for each program, when everything else about it has been
/// decided, and before the point of no return. (Oldest kernel: 5.8.)
#[lsm(hook = "bprm_creds_from_file")]
pub fn bprm_creds_from_file(_: LsmContext) -> i32 {
    let asker = Asker::current();
    if asker.is_host() {
        return PASS;
    }
    asker.stand(
        || PASS,
        refused_blindly,
        |subject| {
            if !subject.brings_descriptors() {
                return PASS;
            }
            match judge(&subject) {
                Ok(verdict) => verdict,
                Err(fault) => POINT.fault(&subject, Rights::READ, fault),
            }
        },
    )
}

#[inline(always)]
fn judge(subject: &Subject) -> Result<i32, Fault> {
    let table = kernel::current().follow(Field::TaskFiles).raw().follow(Field::FilesFdt)?;
    let count = table.get::<u32>(Field::FdtMaxFds)?;
    if count > MAX_DESCRIPTORS {
        return Err(Fault::Descriptors);
    }
    let (files, closing) = (table.follow(Field::FdtFd)?, table.follow(Field::FdtCloseOnExec)?);
    let mut descriptors = Descriptors { subject, files, closing, refused: 0 };
    repeat(count, &mut descriptors);
    Ok(if descriptors.refused != 0 { refused() } else { PASS })
}

/// Goes through the table of descriptors to one that is refused.
struct Descriptors<'a> {
    subject: &'a Subject,
    files: Raw,
    closing: Raw,
    refused: u32,
}

impl Descriptors<'_> {
    /// The file of a descriptor that the new program will have.
    #[inline(always)]
    fn file(&self, number: u32) -> Result<Option<Raw>, Fault> {
        let number = u64::from(number);
        let file = Raw(self.files.0.wrapping_add(number * 8)).load::<u64>()?;
        if file == 0 {
            return Ok(None);
        }
        let closing = Raw(self.closing.0.wrapping_add(number / 64 * 8)).load::<u64>()?;
        Ok(if closing >> (number % 64) & 1 == 0 { Some(Raw(file)) } else { None })
    }
}

impl Step for Descriptors<'_> {
    #[inline(always)]
    fn step(&mut self, number: u32) -> ControlFlow<()> {
        let verdict = match self.file(number) {
            Ok(None) => PASS,
            Ok(Some(file)) => {
                let verdict = judge_handed_owner(Hook::BprmCredsFromFile, self.subject, file);
                if verdict == PASS { judge_file(self.subject, file.0) } else { verdict }
            }
            Err(_) => unreadable(self.subject),
        };
        if verdict == PASS {
            return ControlFlow::Continue(());
        }
        self.refused = 1;
        ControlFlow::Break(())
    }
}

#[inline(never)]
fn unreadable(subject: &Subject) -> i32 {
    POINT.fault(subject, Rights::READ, Fault::KernelRead)
}

/// Judges one file, as if it were opened now. Its name may be one of the host's, who opened it: service managers do
/// that before they give a service a mount namespace of its own.
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn judge_file(subject: &Subject, file: u64) -> i32 {
    let file = Raw(file);
    let (mode, place) = match content_of(file) {
        Ok(Some(found)) => found,
        Ok(None) => return PASS,
        Err(fault) => return POINT.fault(subject, Rights::READ, fault),
    };
    let needed = needed_by_mode(mode);
    let scratch = match name::scratch() {
        Ok(scratch) => scratch,
        Err(fault) => return POINT.fault(subject, needed, fault),
    };
    match name::of_host_place(place, scratch) {
        Ok(span) => POINT.decide_named(subject, span, scratch, needed),
        Err(fault) => POINT.fault(subject, needed, fault),
    }
}

/// The mode and the place of a file that holds something; nothing for pipes, sockets, terminals and the like.
#[inline(always)]
fn content_of(file: Raw) -> Result<Option<(u32, Place<Raw>)>, Fault> {
    let inode = file.follow(Field::FileInode)?;
    let kind = inode.get::<u16>(Field::InodeMode)?;
    let magic = inode.follow(Field::InodeSb)?.get::<u64>(Field::SbMagic)?;
    if !has_content(kind, magic) {
        return Ok(None);
    }
    Ok(Some((file.get::<u32>(Field::FileMode)?, Place::of_raw_file(file)?)))
}
