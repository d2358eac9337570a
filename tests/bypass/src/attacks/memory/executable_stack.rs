//! The stack is writable memory that is there already.

use crate::calls::memory::{self, PROT_EXEC, PROT_READ, PROT_WRITE, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "executable-stack",
    told: "make my stack executable",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![ATTACK.row(&["stack"]).allowed_by("memory.anonymous", "true").refused(
        Hook::FileMprotect,
        Family::Memory,
        Reason::AnonymousExec,
    )]
}

fn run(words: &[&str]) -> Outcome {
    let [_] = arguments(words)?;
    let local = 0_u8;
    let address = (&raw const local).cast_mut();
    let page = Page::at(address.map_addr(|address| address & !(memory::PAGE - 1)).cast());
    let outcome = page.protect(PROT_READ | PROT_WRITE | PROT_EXEC).at("mprotect").map(calls::nothing);
    page.protect(PROT_READ | PROT_WRITE).at("mprotect back")?;
    outcome
}
