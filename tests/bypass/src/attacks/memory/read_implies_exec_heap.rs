//! The heap takes its protection from the personality, too, without any mapping.

use crate::calls::memory::{Page, with_read_implies_exec};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "read-implies-exec-heap",
    told: "grow my heap while it is executable",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["heap"])
            .allowed_by("memory.anonymous", "true")
            .refused(Hook::MmapAddr, Family::Memory, Reason::AnonymousExec)
            // brk(2) has no errors, it just returns the old end.
            .errno(libc::ENOMEM),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    with_read_implies_exec(|| {
        // In a child: without execute permission the call faults.
        calls::process::in_child(|| {
            // SAFETY: growing by a page moves nothing.
            let page = unsafe { libc::sbrk(2 * 4096) };
            if page as isize == -1 {
                return Err(std::io::Error::last_os_error()).at("sbrk");
            }
            let page = Page::at(page);
            page.write_code();
            page.call(0);
            Ok("ran from the heap".into())
        })
    })
}
