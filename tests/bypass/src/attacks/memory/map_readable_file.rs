//! What `LD_PRELOAD` and `dlopen` do with a file that may only be read.

use crate::calls::memory::{MAP_PRIVATE, PROT_EXEC, PROT_READ, Page};
use std::os::fd::AsFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "map-readable-file",
    told: "map a readable file as code",
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
            .refused(Hook::MmapFile, Family::Memory, Reason::NoRule)
            .needing("library")
            .about("{dir}/evil.so"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [library] = arguments(words)?;
    let file = calls::files::open(library, OFlag::O_RDONLY)?;
    Page::of_file(file.as_fd(), PROT_READ | PROT_EXEC, MAP_PRIVATE).at("mmap").map(calls::nothing)
}
