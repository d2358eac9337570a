//! A file of an unknown format made old kernels ask for a module.

use enforcer_vm_tests::scenario::make_executable;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "request-binary-format",
    told: "make the kernel look for a loader of my own format",
    kernels: Kernels::Only(&["6.1", "6.12"]),
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/unknown"])
            .prepared(calls::modules::watch)
            .prepared(unknown_format)
            .given("exec.allow", "{dir}/unknown")
            .allowed_by("privileges.allow", "kernel-module")
            .refused(Hook::KernelModuleRequest, Family::Privilege, Reason::Privilege)
            .about("kernel-module")
            .errno(libc::ENOEXEC),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [unknown] = arguments(words)?;
    let attempt = calls::process::run(unknown);
    // The third and fourth byte name it.
    calls::modules::was_asked_for("binfmt-0403", &attempt)
}

fn unknown_format(directory: &Path) {
    make_executable(&directory.join("unknown"), &[1, 2, 3, 4, 5, 6, 7, 8]);
}
