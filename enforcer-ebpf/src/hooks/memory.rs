//! Executable memory: what is mapped must be listed code, and nothing becomes code later.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::Content, decide::Request, field::Field, hook::Hook, rights::Rights, verdict::Family,
};

use super::{interpreter, pointer};
use crate::{
    cache,
    control::{PASS, Point, refused},
    kernel::{self, Typed},
    name::Place,
    own,
    subject::{self, Claim, Subject},
};

const PROT_WRITE: u64 = 0x2;
const PROT_EXEC: u64 = 0x4;
const VM_EXEC: u64 = 0x4;
const SHM_EXEC: i32 = 0o100_000;

pub const fn memory_point(hook: Hook) -> Point {
    Point::new(hook, Family::Memory)
}

#[inline(always)]
pub fn anonymous(point: Point, subject: &Subject) -> i32 {
    point.decide(subject, &Request::AnonymousExec)
}

/// Judges executable mappings. `prot` already contains what `READ_IMPLIES_EXEC` adds. A mapping that is writable too
/// can hold any code, whatever file it started from. (Oldest kernel: 5.7.)
#[lsm(hook = "mmap_file")]
pub fn mmap_file(ctx: LsmContext) -> i32 {
    let (file, prot) = (pointer(&ctx, 0), ctx.arg::<u64>(2));
    if prot & PROT_EXEC == 0 {
        return PASS;
    }
    if subject::is_held_to_code() && (file.is_null() || prot & PROT_WRITE != 0 || !own::is_code(file)) {
        return subject::leave_code(memory_point(Hook::MmapFile));
    }
    let point = memory_point(Hook::MmapFile);
    let is_answered = |claim: Claim<'_>| {
        !file.is_null()
            && prot & PROT_WRITE == 0
            && !interpreter::is_refused(claim.label.program)
            && !is_starting()
            && cache::allows(claim, file, Rights::LIBRARY)
    };
    point.judge_unless(is_answered, |subject| {
        // Reported when it was found out.
        if interpreter::is_refused(subject.program()) {
            return refused();
        }
        if file.is_null() || prot & PROT_WRITE != 0 {
            return anonymous(point, subject);
        }
        if is_starting() {
            let verdict = judge_stack(subject);
            if verdict != PASS {
                return verdict;
            }
        }
        if is_own_image(subject, file) || cache::allows(subject.claim(), file, Rights::LIBRARY) {
            return PASS;
        }
        point.decide_file(subject, file, Rights::LIBRARY)
    })
}

/// Whether the kernel is mapping a new program: the loaders set this last.
#[inline(always)]
fn is_starting() -> bool {
    kernel::current().follow(Field::TaskMm).get::<u64>(Field::MmStartCode) == 0
}

/// Judges the stack that a new program was given. No hook sees it become executable; the first mapping of the program's
/// code is the next that does see something, and a refusal there ends the process.
///
/// Out of line, for the stack's sake.
#[inline(never)]
fn judge_stack(subject: &Subject) -> i32 {
    let point = memory_point(Hook::MmapFile);
    match kernel::has_executable_stack() {
        Ok(false) => PASS,
        Ok(true) => anonymous(point, subject),
        Err(fault) => point.fault(subject, Rights::NONE, fault),
    }
}

/// Whether the kernel is mapping a program whose content was found right a moment ago, or who starts it.
///
/// A pinned program may start, but its file is no library: mapped by `ld.so program`, nobody would look at what it
/// holds. So only the mappings that `execve` itself makes pass, between the check and the program's first instruction:
/// the file is the very one that was checked (the last program that `bprm_check_digest` sees is the one that becomes
/// `exe_file`), and the new address space has no code segment yet. Nobody can write to the file until then: `execve`
/// has denied write access before the check, and `exe_file` goes on denying it. Later the program itself could replace
/// its `exe_file` (`PR_SET_MM_EXE_FILE`), but `start_code` is set by then, and `prctl` takes no address as low as 0.
#[inline(always)]
fn is_own_image(subject: &Subject, file: Typed) -> bool {
    if !subject.is_content(Content::Checked) {
        return false;
    }
    let mm = kernel::current().follow(Field::TaskMm);
    mm.follow(Field::MmExeFile).raw() == file.raw() && is_starting()
}

/// Judges memory that becomes executable. A private file mapping that already holds pages of its own (`anon_vma`) may
/// have been written to. (Oldest kernel: 5.7.)
#[lsm(hook = "file_mprotect")]
pub fn file_mprotect(ctx: LsmContext) -> i32 {
    let (vma, prot) = (pointer(&ctx, 0), ctx.arg::<u64>(2));
    if prot & PROT_EXEC == 0 {
        return PASS;
    }
    if subject::is_held_to_code() {
        return subject::leave_code(memory_point(Hook::FileMprotect));
    }
    let point = memory_point(Hook::FileMprotect);
    point.judge(|subject| {
        if prot & PROT_WRITE != 0 {
            return anonymous(point, subject);
        }
        if vma.get::<u64>(Field::VmaFlags) & VM_EXEC != 0 {
            return PASS;
        }
        let file = vma.follow(Field::VmaFile);
        if file.is_null() || !vma.follow(Field::VmaAnonVma).is_null() {
            return anonymous(point, subject);
        }
        point.decide_place(subject, Place::of_file(file), false, Rights::LIBRARY)
    })
}

/// Judges executable System V shared memory. (Oldest kernel: 5.7.)
#[lsm(hook = "shm_shmat")]
pub fn shm_shmat(ctx: LsmContext) -> i32 {
    if ctx.arg::<i32>(2) & SHM_EXEC == 0 {
        return PASS;
    }
    if subject::is_held_to_code() {
        return subject::leave_code(memory_point(Hook::ShmShmat));
    }
    let point = memory_point(Hook::ShmShmat);
    point.judge(|subject| anonymous(point, subject))
}

/// Judges every mapping, and growth of the heap, under a personality that makes them executable: the heap takes its
/// protection from there, and no other hook sees it. (Oldest kernel: 5.7.)
#[lsm(hook = "mmap_addr")]
pub fn mmap_addr(_: LsmContext) -> i32 {
    if !kernel::read_implies_exec() {
        return PASS;
    }
    if subject::is_held_to_code() {
        return subject::leave_code(memory_point(Hook::MmapAddr));
    }
    let point = memory_point(Hook::MmapAddr);
    point.judge(|subject| anonymous(point, subject))
}
