//! A file that was open before the workload began.

use crate::calls::memory::{MAP_PRIVATE, PROT_EXEC, PROT_READ, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "inherited-file",
    told: "use a file that I was started with",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let inherited = |how: &str| {
        ATTACK.row(&[how, "{fd}"]).file("{dir}/secret").inherits(Inherited::File("{dir}/secret".into()))
    };
    vec![
        inherited("reopen")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
        inherited("map")
            .allowed_by("memory.libraries", "{dir}/secret")
            .refused(Hook::MmapFile, Family::Memory, Reason::NoRule)
            .needing("library")
            .about("{dir}/secret"),
        ATTACK
            .row(&["exec", "{fd}"])
            .stub("{dir}/evil", 0)
            .inherits(Inherited::File("{dir}/evil".into()))
            .allowed_by("exec.allow", "{dir}/evil")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/evil"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, number] = arguments(words)?;
    match how {
        "reopen" => calls::files::steal(&format!("/proc/self/fd/{number}")),
        "exec" => calls::process::run(&format!("/proc/self/fd/{number}")),
        _ => {
            let held = calls::borrowed(calls::number(number)?);
            Page::of_file(held, PROT_READ | PROT_EXEC, MAP_PRIVATE).at("mmap").map(calls::nothing)
        }
    }
}
