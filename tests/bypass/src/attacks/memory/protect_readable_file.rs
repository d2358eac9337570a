//! The same in two steps.

use crate::calls::memory::{MAP_PRIVATE, PROT_EXEC, PROT_READ, Page};
use std::os::fd::AsFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "protect-readable-file",
    told: "map a readable file as data and make it code later",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/evil.so"])
            .stub("{dir}/evil.so", 0)
            .given("file.read", "{dir}/evil.so")
            .allowed_by("memory.libraries", "{dir}/evil.so")
            .refused(Hook::FileMprotect, Family::Memory, Reason::NoRule)
            .needing("library")
            .about("{dir}/evil.so"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [library] = arguments(words)?;
    let file = calls::files::open(library, OFlag::O_RDONLY)?;
    let page = Page::of_file(file.as_fd(), PROT_READ, MAP_PRIVATE).at("mmap")?;
    page.protect(PROT_READ | PROT_EXEC).at("mprotect").map(calls::nothing)
}
