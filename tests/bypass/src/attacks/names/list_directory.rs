//! Names are information, too.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "list-directory",
    told: "list a directory",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/private"])
            .directory("{dir}/private")
            .allowed_by("file.read", "{dir}/private")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/private"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [directory] = arguments(words)?;
    let entries = std::fs::read_dir(directory).at("opendir")?;
    Ok(format!("{} entries", entries.count()))
}
