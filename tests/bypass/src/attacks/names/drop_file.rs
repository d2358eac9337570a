//! A file that is created is written to before anybody judges it.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "drop-file",
    told: "leave a file of mine behind",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let dropped = |path: &str| {
        ATTACK
            .row(&[path])
            .allowed_by("file.create", path)
            .refused(Hook::PathMknod, Family::File, Reason::NoRule)
            .needing("create")
            .about(path)
    };
    vec![dropped("{dir}/dropped"), dropped("{dir}/log").given("file.write", "{dir}/log")]
}

fn run(words: &[&str]) -> Outcome {
    let [path] = arguments(words)?;
    calls::files::touch(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)
}
