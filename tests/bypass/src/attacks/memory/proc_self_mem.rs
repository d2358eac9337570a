//! `/proc/self/mem` writes where the program itself cannot: into its own code.

use std::os::unix::fs::FileExt;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "proc-self-mem",
    told: "write over my own code through /proc/self/mem",
    // Later ones let only tracers write where the mapping does not.
    kernels: Kernels::Only(&["6.1", "6.12", "6.18"]),
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let own = |path: &str| {
        ATTACK
            .row(&[path])
            .allowed_by("file.write", path)
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("write")
            .about("/mem")
    };
    vec![own("/proc/self/mem")]
}

fn run(words: &[&str]) -> Outcome {
    let [path] = arguments(words)?;
    let memory = std::fs::OpenOptions::new().write(true).open(path).at("open")?;
    // The first byte of a function that nobody calls, replaced by what it is already.
    let code = never_called as *const u8;
    // SAFETY: a function has at least one byte.
    let byte = unsafe { code.read_volatile() };
    memory.write_at(&[byte], code as u64).at("write").map(calls::nothing)
}

#[inline(never)]
extern "C" fn never_called() {}
