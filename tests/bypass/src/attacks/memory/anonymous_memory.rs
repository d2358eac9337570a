//! Memory that is writable and executable holds any code.

use crate::calls::memory::{MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE, Page};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "anonymous-memory",
    told: "map memory that I can write to and run",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK.row(&["private"]).allowed_by("memory.anonymous", "true").refused(
            Hook::MmapFile,
            Family::Memory,
            Reason::AnonymousExec,
        ),
        ATTACK.row(&["shared"]).allowed_by("memory.anonymous", "true").refused(
            Hook::MmapFile,
            Family::Memory,
            Reason::AnonymousExec,
        ),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how] = arguments(words)?;
    let sharing = if how == "shared" { MAP_SHARED } else { MAP_PRIVATE };
    let page = Page::anonymous(PROT_READ | PROT_WRITE | PROT_EXEC, sharing).at("mmap")?;
    page.write_code();
    page.call(0);
    Ok(String::new())
}
