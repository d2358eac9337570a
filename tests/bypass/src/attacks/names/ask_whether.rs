//! Interpreters that ask the kernel (`AT_EXECVE_CHECK`) take its answer for the policy's.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "ask-whether",
    told: "have an interpreter ask whether it may run my script",
    // Since 6.14.
    kernels: Kernels::Only(&["6.18", "7"]),
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/script"])
            .script("{dir}/script", "{dir}/interpreter")
            .given("file.read", "{dir}/script")
            .given("exec.allow", "{dir}/interpreter")
            .given("interpreters.programs", "{dir}/interpreter")
            .allowed_by("interpreters.code", "{dir}/script")
            .refused(Hook::BprmCredsForExec, Family::Exec, Reason::NoRule)
            .needing("code")
            .about("{dir}/script"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    /// Since 6.14, not in `libc`.
    const AT_EXECVE_CHECK: i32 = 0x10000;
    let [script] = arguments(words)?;
    let file = calls::files::open(script, OFlag::O_RDONLY)?;
    let arguments = [c"script".as_ptr(), core::ptr::null()];
    let environment = [core::ptr::null::<libc::c_char>()];
    let flags = libc::AT_EMPTY_PATH | AT_EXECVE_CHECK;
    // SAFETY: all strings end in NUL and both lists in a null pointer. With this flag nothing is started, so it returns.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            flags,
        )
    };
    calls::check(answer).at("execveat").map(calls::nothing)
}
