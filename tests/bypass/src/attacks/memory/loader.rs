//! What `ld.so PROGRAM` does: one program loads another and jumps into it, without any exec.

use std::os::fd::AsFd;

use enforcer_vm_tests::stub;

use crate::calls::memory::{MAP_PRIVATE, PROT_EXEC, PROT_READ, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "loader",
    told: "be the loader of a program that I may only read",
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
    let [program] = arguments(words)?;
    // The loaded program ends the process it runs in.
    calls::process::spawn(|| match load(program) {
        Ok(page) => {
            page.call(stub::ENTRY);
            nix::Error::ENOEXEC
        }
        Err(failure) => nix::Error::from_raw(failure.errno),
    })
}

fn load(program: &str) -> Result<Page, Failure> {
    let file = calls::files::open(program, OFlag::O_RDONLY)?;
    Page::of_file(file.as_fd(), PROT_READ | PROT_EXEC, MAP_PRIVATE).at("mmap")
}
