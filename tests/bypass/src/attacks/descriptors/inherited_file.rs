//! A file that was open before the workload began.

use crate::calls::memory::{MAP_PRIVATE, PROT_EXEC, PROT_READ, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "inherited-file",
    told: "get more out of a file that I was started with",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let inherited = |how: &str, path: &str| {
        ATTACK.row(&[how, "{fd}"]).inherits(Inherited::File(path.into())).given("file.read", path)
    };
    vec![
        inherited("reopen", "{dir}/secret")
            .file("{dir}/secret")
            .allowed_by("file.write", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/secret"),
        inherited("map", "{dir}/secret")
            .file("{dir}/secret")
            .allowed_by("memory.libraries", "{dir}/secret")
            .refused(Hook::MmapFile, Family::Memory, Reason::NoRule)
            .needing("library")
            .about("{dir}/secret"),
        inherited("exec", "{dir}/evil")
            .stub("{dir}/evil", 0)
            .allowed_by("exec.allow", "{dir}/evil")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/evil"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, number] = arguments(words)?;
    match how {
        "reopen" => calls::files::touch(&format!("/proc/self/fd/{number}"), OFlag::O_WRONLY),
        "exec" => calls::process::run(&format!("/proc/self/fd/{number}")),
        _ => {
            let held = calls::borrowed(calls::number(number)?);
            Page::of_file(held, PROT_READ | PROT_EXEC, MAP_PRIVATE).at("mmap").map(calls::nothing)
        }
    }
}
