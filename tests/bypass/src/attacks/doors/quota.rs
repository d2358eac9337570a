//! Quotas can be switched off.

use crate::prelude::*;

pub(crate) const ATTACK: Attack =
    Attack { name: "quota", told: "change disk quotas", kernels: Kernels::All, ordinary: false, rows, run };

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["sync"])
            .allowed_by("privileges.allow", "quota")
            .refused(Hook::Quotactl, Family::Privilege, Reason::Privilege)
            .about("quota")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    // Q_SYNC of user quotas, on all file systems.
    // SAFETY: this command takes no pointers.
    let done = unsafe { libc::syscall(libc::SYS_quotactl, 0x8000_0100_u32, 0, 0, 0) };
    calls::check(done).at("quotactl").map(calls::nothing)
}
