//! Whoever reaches the ports of the machine reaches its disks and its memory.

use crate::calls::memory::{PAGE, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "raw-io",
    told: "speak to the hardware",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let row = |how: &str| {
        ATTACK
            .row(&[how])
            .allowed_by("privileges.allow", "raw-io")
            .refused(Hook::Capable, Family::Privilege, Reason::Privilege)
            .about("raw-io")
    };
    // The last takes a kernel that can lose memory.
    vec![row("ioperm"), row("iopl"), row("offline").optional()]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    if how == "offline" {
        // The page is moved, and the one it was on is never used again; `MADV_HWPOISON` asks for the same capability.
        let page = Page::anonymous(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE).at("mmap")?;
        page.write_code();
        // SAFETY: the page is ours, and what it holds stays.
        let offline = unsafe { libc::madvise(page.address(), PAGE, libc::MADV_SOFT_OFFLINE) };
        return calls::check(offline).at("madvise").map(calls::nothing);
    }
    // In a child, which takes what it got with it.
    calls::process::in_child(|| {
        // SAFETY: gaining access to ports touches none.
        let gained = unsafe { if how == "iopl" { libc::iopl(3) } else { libc::ioperm(0x80, 1, 1) } };
        calls::check(gained).at(how).map(calls::nothing)
    })
}
