//! One file, two names, and both were there before: the name that is used counts.

use enforcer_vm_tests::scenario::make_executable;
use enforcer_vm_tests::stub;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "hard-link-in-image",
    told: "use a listed file by another name that it has",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["read", "{dir}/secret"])
            .prepared(link)
            .given("file.read", "{dir}/listed")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
        ATTACK
            .row(&["start", "{dir}/shell"])
            .prepared(link)
            .given("exec.allow", "{dir}/tool")
            .allowed_by("exec.allow", "{dir}/shell")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::NoRule)
            .needing("exec")
            .about("{dir}/shell"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, name] = arguments(words)?;
    if how == "read" { calls::files::steal(name) } else { calls::process::run(name) }
}

fn link(directory: &Path) {
    std::fs::write(directory.join("listed"), "secret").expect("creating a file");
    make_executable(&directory.join("tool"), &stub::exiting(0));
    for (old, new) in [("listed", "secret"), ("tool", "shell")] {
        std::fs::hard_link(directory.join(old), directory.join(new)).expect("giving a file a second name");
    }
}
