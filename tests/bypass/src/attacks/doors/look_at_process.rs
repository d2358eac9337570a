//! What a process was started with, and where its memory lies, are half of what an attack on it needs.

use crate::calls::memory::PAGE;
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "look-at-process",
    told: "look at the environment and the memory map of a process outside",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    // Newer kernels ask for `CAP_PERFMON` or `CAP_SYS_ADMIN` next, which root in a workload has.
    let refused = |case: Case| {
        case.allowed_by("privileges.allow", "ptrace")
            .refused(Hook::PtraceAccessCheck, Family::Privilege, Reason::Privilege)
            .about("ptrace")
            .errno(libc::EACCES)
    };
    let file = |name: &str| {
        refused(
            ATTACK
                .row(&[name, "{victim}", "{victim-stack}"])
                .given("file.read", &format!("/proc/{{victim}}/{name}")),
        )
    };
    vec![file("environ"), file("maps"), refused(ATTACK.row(&["page-out", "{victim}", "{victim-stack}"]))]
}

fn run(words: &[&str]) -> Outcome {
    let [what, victim, address] = arguments(words)?;
    if what == "page-out" {
        return page_out(calls::number(victim)?, calls::number(address)?);
    }
    let told = std::fs::read(format!("/proc/{victim}/{what}")).at("read")?;
    if told.is_empty() {
        return Err(failure("nothing was told", libc::ENODATA));
    }
    Ok(String::new())
}

/// Has memory of another process written out, so that its next use takes long, which can be seen.
fn page_out(victim: i32, address: usize) -> Outcome {
    let process = calls::process::pidfd(victim).at("pidfd_open")?;
    let page = address & !(PAGE - 1);
    let part = libc::iovec { iov_base: std::ptr::without_provenance_mut(page), iov_len: PAGE };
    // SAFETY: one part, which is memory of the other process; its content stays.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            std::os::fd::AsRawFd::as_raw_fd(&process),
            &raw const part,
            1,
            libc::MADV_PAGEOUT,
            0,
        )
    };
    calls::check(done).at("process_madvise").map(calls::nothing)
}
