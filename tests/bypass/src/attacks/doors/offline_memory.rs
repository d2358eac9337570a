//! A page of memory is taken out of use for whoever has the capability, by whatever system call they ask.

use crate::calls::memory::{PAGE, Page};
use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "offline-memory",
    told: "take memory away that others use, too",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |how: &str| {
        // Takes a kernel that can lose memory, and for `process_madvise` one since 6.13.
        ATTACK
            .row(&[how])
            .optional()
            .allowed_by("privileges.allow", "raw-io")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("raw-io")
    };
    vec![row("madvise"), row("process-madvise"), row("io-uring")]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    // The page is moved, and the one it was on is never used again; `MADV_HWPOISON` asks for the same capability.
    const OFFLINE: i32 = libc::MADV_SOFT_OFFLINE;
    let page = Page::anonymous(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE).at("mmap")?;
    page.write_code();
    match how {
        "madvise" => {
            // SAFETY: the page is ours, and what it holds stays.
            let offline = unsafe { libc::madvise(page.address(), PAGE, OFFLINE) };
            calls::check(offline).at("madvise").map(calls::nothing)
        }
        "process-madvise" => {
            let own = calls::process::pidfd(std::process::id().cast_signed()).at("pidfd_open")?;
            let part = libc::iovec { iov_base: page.address(), iov_len: PAGE };
            // SAFETY: one part, which is our page.
            let offline = unsafe {
                libc::syscall(
                    libc::SYS_process_madvise,
                    std::os::fd::AsRawFd::as_raw_fd(&own),
                    &raw const part,
                    1,
                    OFFLINE,
                    0,
                )
            };
            calls::check(offline).at("process_madvise").map(|done| format!("{done} bytes"))
        }
        _ => {
            let ring = calls::uring::ring("plain")?;
            ring.advise(page.address() as u64, u32::try_from(PAGE).unwrap_or(0), OFFLINE)
                .at("madvise by io_uring")
                .map(calls::nothing)
        }
    }
}
