//! System V shared memory can be attached as code.

use crate::calls::memory::{Page, attach_shm, with_read_implies_exec};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "shared-memory",
    told: "attach shared memory as code",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.row(&["shm-exec"]).allowed_by("memory.anonymous", "true").refused(
            Hook::ShmShmat,
            Family::Memory,
            Reason::AnonymousExec,
        ),
        ATTACK.row(&["read-implies-exec"]).allowed_by("memory.anonymous", "true").refused(
            Hook::MmapFile,
            Family::Memory,
            Reason::AnonymousExec,
        ),
        // A file of the kernel's own, which no name leads to.
        ATTACK
            .row(&["protect"])
            .allowed_by("exec.unlinked", "true")
            .refused(Hook::FileMprotect, Family::Memory, Reason::Unlinked)
            .needing("library"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    let run = |page: Page| {
        page.write_code();
        page.call(0);
        Ok(String::new())
    };
    if how == "shm-exec" {
        attach_shm(libc::SHM_EXEC, run)
    } else if how == "protect" {
        attach_shm(0, |page| {
            page.write_code();
            page.protect(libc::PROT_READ | libc::PROT_EXEC).at("mprotect")?;
            page.call(0);
            Ok(String::new())
        })
    } else {
        with_read_implies_exec(|| attach_shm(0, run))
    }
}
