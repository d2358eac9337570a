//! Kernel code is beyond every rule.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "load-module",
    told: "load code into the kernel",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["init_module", ""])
            .allowed_by("privileges.allow", "kernel-module")
            .refused(Hook::KernelLoadData, Family::Privilege, Reason::Privilege)
            .about("kernel-module")
            .optional(),
        ATTACK
            .row(&["finit_module", "{dir}/evil.ko"])
            .file("{dir}/evil.ko")
            .given("file.read", "{dir}/evil.ko")
            .allowed_by("privileges.allow", "kernel-module")
            .refused(Hook::KernelReadFile, Family::Privilege, Reason::Privilege)
            .about("kernel-module")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, path] = arguments(words)?;
    let loaded = if how == "init_module" {
        let image = [0_u8; 64];
        // SAFETY: the image is as long as said and the parameters are an empty string.
        unsafe { libc::syscall(libc::SYS_init_module, image.as_ptr(), image.len(), c"".as_ptr()) }
    } else {
        let file = calls::files::open(path, OFlag::O_RDONLY)?;
        // SAFETY: the parameters are an empty string.
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) }
    };
    match calls::check(loaded) {
        // The kernel's parser speaking about nonsense: the attacker got that far.
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => Ok("reached the module loader".into()),
        other => other.at(how).map(calls::nothing),
    }
}
