//! A personality under which all that is readable can be run.

use crate::calls::memory::{
    self, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, Page, with_read_implies_exec,
};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "read-implies-exec",
    told: "have the kernel make everything executable that I can read",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.row(&["mmap"]).allowed_by("memory.anonymous", "true").refused(
            Hook::MmapFile,
            Family::Memory,
            Reason::AnonymousExec,
        ),
        ATTACK.row(&["mprotect"]).allowed_by("memory.anonymous", "true").refused(
            Hook::FileMprotect,
            Family::Memory,
            Reason::AnonymousExec,
        ),
        // From 6.12 on, and in later 6.1, the call asks like mmap does.
        ATTACK.row(&["remap_file_pages"]).allowed_by("memory.anonymous", "true").refused(
            Hook::MmapFile,
            Family::Memory,
            Reason::AnonymousExec,
        ),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    let before = Page::anonymous(PROT_READ | PROT_WRITE, MAP_SHARED).at("mmap before")?;
    with_read_implies_exec(|| {
        let page = match how {
            "mmap" => Page::anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE).at("mmap")?,
            "mprotect" => {
                before.protect(PROT_READ | PROT_WRITE).at("mprotect")?;
                before
            }
            _ => {
                // SAFETY: the page is ours and stays where it is.
                let remapped = unsafe {
                    libc::syscall(libc::SYS_remap_file_pages, before.address(), memory::PAGE, 0, 0, 0)
                };
                calls::check(remapped).at("remap_file_pages")?;
                before
            }
        };
        // In a child: without execute permission the call faults.
        calls::process::in_child(|| {
            page.write_code();
            page.call(0);
            Ok(String::new())
        })
    })
}
