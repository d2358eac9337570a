//! Kernel code is beyond every rule.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "load-module",
    told: "load code into the kernel, or unload it",
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
        // Whatever it guards goes with it.
        ATTACK
            .row(&["delete_module", MODULE])
            .prepared(load)
            .allowed_by("privileges.allow", "kernel-module")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("kernel-module"),
    ]
}

/// A module that nobody in the guest uses.
const MODULE: &str = "macvlan";

fn load(_: &Path) {
    let loaded = std::process::Command::new("modprobe").arg(MODULE).status();
    assert!(loaded.as_ref().is_ok_and(|status| status.success()), "loading {MODULE}: {loaded:?}");
}

fn run(words: &[&str]) -> Outcome {
    let [how, path] = arguments(words)?;
    if how == "delete_module" {
        let name = calls::c_string(path).at("name")?;
        // SAFETY: the name ends in NUL.
        let deleted = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
        return calls::check(deleted).at(how).map(calls::nothing);
    }
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
