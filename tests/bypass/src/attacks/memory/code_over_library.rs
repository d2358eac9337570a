//! A private copy of a listed library still carries its name.

use crate::calls::memory::{MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE, Page};
use std::os::fd::AsFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "code-over-library",
    told: "write code over my private copy of a listed library",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let copy = |how: &str, hook: Hook| {
        ATTACK
            .row(&[how, "{dir}/good.so"])
            .stub("{dir}/good.so", 0)
            .given("memory.libraries", "{dir}/good.so")
            .allowed_by("memory.anonymous", "true")
            .refused(hook, Family::Memory, Reason::AnonymousExec)
    };
    vec![
        copy("protect", Hook::FileMprotect),
        copy("code-to-data-to-code", Hook::FileMprotect),
        copy("all-at-once", Hook::MmapFile),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, library] = arguments(words)?;
    let file = calls::files::open(library, OFlag::O_RDONLY)?;
    let map = |protection| Page::of_file(file.as_fd(), protection, MAP_PRIVATE).at("mmap");
    let page = match how {
        "all-at-once" => map(PROT_READ | PROT_WRITE | PROT_EXEC)?,
        "code-to-data-to-code" => {
            let page = map(PROT_READ | PROT_EXEC)?;
            page.protect(PROT_READ | PROT_WRITE).at("mprotect to data")?;
            page
        }
        _ => map(PROT_READ | PROT_WRITE)?,
    };
    page.write_code();
    if how != "all-at-once" {
        page.protect(PROT_READ | PROT_EXEC).at("mprotect")?;
    }
    page.call(0);
    Ok(String::new())
}
