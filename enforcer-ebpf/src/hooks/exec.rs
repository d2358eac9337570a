//! Starting programs.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    abi::program,
    field::Field,
    hook::Hook,
    rights::Rights,
    verdict::{Family, Fault},
};

use super::{
    interpreter,
    memory::{anonymous, memory_point},
    pointer,
};
use crate::{
    control::{PASS, Point},
    kernel,
    name::{self, Place},
    subject::{self, Standing, Subject},
};

const POINT: Point = Point::new(Hook::BprmCheckSecurity, Family::Exec);

/// Judges a program. Fires for a script and again for its interpreter; both need the right. (Oldest kernel: 5.7.)
///
/// An entering task that starts a launcher goes on setting up; whatever else it starts is the workload's own, and is
/// judged although nothing else of the task was.
#[lsm(hook = "bprm_check_security")]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    let file = pointer(&ctx, 0).follow(Field::BprmFile);
    match subject::current() {
        Ok(Standing::Host) => PASS,
        Ok(Standing::Workload(subject)) => {
            let place = Place::of_file(file);
            if subject.entering {
                match starts_launcher(&subject, place) {
                    Ok(true) => {
                        subject.set_arming(false);
                        return PASS;
                    }
                    Ok(false) => subject.set_arming(true),
                    Err(fault) => return POINT.fault(&subject, Rights::EXEC, fault),
                }
            }
            // The new image would have an executable heap and stack.
            if kernel::read_implies_exec() {
                let verdict = anonymous(memory_point(Hook::BprmCheckSecurity), &subject);
                if verdict != PASS {
                    return verdict;
                }
            }
            let verdict = POINT.decide_place(&subject, place, false, Rights::EXEC);
            if verdict != PASS {
                return verdict;
            }
            // A script comes first and its interpreter last, so what was found out last holds.
            match interpreter::is_interpreter(&subject, place) {
                Ok(true) => subject.set_program(subject.program() | program::NEXT),
                Ok(false) => subject.set_program(subject.program() & !program::NEXT),
                Err(fault) => return POINT.fault(&subject, Rights::EXEC, fault),
            }
            PASS
        }
        Err(fault) => POINT.stranded(fault),
    }
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

#[inline(always)]
fn starts_launcher(subject: &Subject, place: Place) -> Result<bool, Fault> {
    subject::launcher_at(&subject.maps, place, name::scratch()?)
}
