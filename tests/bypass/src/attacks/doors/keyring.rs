//! Keyrings carry data between processes, and `request_key` starts a helper.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "keyring",
    told: "keep secrets in the kernel's keyrings",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["add_key"])
            .allowed_by("privileges.allow", "keyring")
            .refused(Hook::KeyAlloc, Family::Privilege, Reason::Privilege)
            .about("keyring"),
        ATTACK
            .row(&["request_key"])
            .allowed_by("privileges.allow", "keyring")
            .refused(Hook::KeyAlloc, Family::Privilege, Reason::Privilege)
            .about("keyring")
            .optional(),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
    let (kind, name) = (c"user".as_ptr(), c"bypass".as_ptr());
    let added = if how == "add_key" {
        // SAFETY: both names end in NUL and the payload is one byte long.
        unsafe { libc::syscall(libc::SYS_add_key, kind, name, c"1".as_ptr(), 1, KEY_SPEC_PROCESS_KEYRING) }
    } else {
        // SAFETY: all names end in NUL.
        unsafe { libc::syscall(libc::SYS_request_key, kind, name, c"".as_ptr(), KEY_SPEC_PROCESS_KEYRING) }
    };
    match calls::check(added) {
        // The helper that would make the key is not installed: it was asked for.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOKEY)) => Ok("asked for a helper".into()),
        other => other.at(how).map(calls::nothing),
    }
}
