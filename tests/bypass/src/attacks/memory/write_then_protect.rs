//! Never writable and executable at once, but one after the other.

use crate::calls::memory::{self, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "write-then-protect",
    told: "write code into memory, then make it executable",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.row(&["mprotect"]).allowed_by("memory.anonymous", "true").refused(
            Hook::FileMprotect,
            Family::Memory,
            Reason::AnonymousExec,
        ),
        ATTACK.row(&["pkey_mprotect"]).allowed_by("memory.anonymous", "true").refused(
            Hook::FileMprotect,
            Family::Memory,
            Reason::AnonymousExec,
        ),
        ATTACK.row(&["thread"]).allowed_by("memory.anonymous", "true").refused(
            Hook::FileMprotect,
            Family::Memory,
            Reason::AnonymousExec,
        ),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    let by_key = how == "pkey_mprotect";
    let act = move || {
        let page = Page::anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE).at("mmap")?;
        page.write_code();
        if by_key {
            let protection = PROT_READ | PROT_EXEC;
            // SAFETY: the page is ours. Without a key (-1) this is mprotect.
            let protected = unsafe {
                libc::syscall(libc::SYS_pkey_mprotect, page.address(), memory::PAGE, protection, -1)
            };
            calls::check(protected).at("pkey_mprotect")?;
        } else {
            page.protect(PROT_READ | PROT_EXEC).at("mprotect")?;
        }
        page.call(0);
        Ok(String::new())
    };
    if how == "thread" { calls::process::in_thread(act) } else { act() }
}
