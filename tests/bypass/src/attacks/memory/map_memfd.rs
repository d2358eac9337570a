//! A library that was never on a disk.

use std::os::fd::AsFd;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::calls::memory::{MAP_PRIVATE, PROT_EXEC, PROT_READ, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "map-memfd",
    told: "map code from a memory file",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        // The memory file is sized first, which 6.1 judges as `truncate`.
        ATTACK
            .row(&["library"])
            .given("file.unlinked", "true")
            .allowed_by("exec.unlinked", "true")
            .refused(Hook::MmapFile, Family::Memory, Reason::Unlinked)
            .needing("library")
            .about("library"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [name] = arguments(words)?;
    let memory = memfd_create(name, MFdFlags::MFD_CLOEXEC).at("memfd_create")?;
    nix::unistd::ftruncate(&memory, 4096).at("ftruncate")?;
    Page::of_file(memory.as_fd(), PROT_READ | PROT_EXEC, MAP_PRIVATE).at("mmap").map(calls::nothing)
}
