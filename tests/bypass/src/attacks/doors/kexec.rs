//! Another kernel knows no rules.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "kexec",
    told: "boot a kernel of my own",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["load"])
            .given("privileges.allow", "reboot")
            .allowed_by("privileges.allow", "kernel-module")
            .refused(Hook::KernelLoadData, Family::Privilege, Reason::Privilege)
            .about("kernel-module")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    // No segments: forgets an image, after the same checks as loading one.
    // SAFETY: there are no segments to point to.
    let loaded = unsafe { libc::syscall(libc::SYS_kexec_load, 0, 0, core::ptr::null::<u8>(), 0) };
    calls::check(loaded).at("kexec_load").map(calls::nothing)
}
