//! Starting programs.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use enforcer_common::{
    field::Field,
    hook::Hook,
    rights::Rights,
    verdict::{Family, Fault},
};

use super::pointer;
use crate::{
    control::{PASS, Point},
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
            POINT.decide_place(&subject, place, false, Rights::EXEC)
        }
        Err(fault) => POINT.stranded(fault),
    }
}

#[inline(always)]
fn starts_launcher(subject: &Subject, place: Place) -> Result<bool, Fault> {
    subject::launcher_at(&subject.maps, place, name::scratch()?)
}

/// Arms the label of a task that has started the workload's program. Runs after the point of no return and before the
/// new image is mapped. (Oldest kernel: 5.7.)
#[lsm(hook = "bprm_committed_creds")]
pub fn bprm_committed_creds(_: LsmContext) -> i32 {
    subject::arm();
    PASS
}
