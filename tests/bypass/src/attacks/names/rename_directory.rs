//! Renaming a directory renames everything below it, about which no rule was asked.

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "rename-directory",
    told: "move a whole directory to a readable name",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/private", "{dir}/public"])
            .directory("{dir}/private")
            .file("{dir}/private/secret")
            .given("file.read", "{dir}/private")
            .given("file.create", "{dir}/private")
            .given("file.create", "{dir}/public")
            .given("file.read", "{dir}/public/**")
            .allowed_by("privileges.allow", "rename-directory")
            .refused(Hook::PathRename, Family::Privilege, Reason::Privilege)
            .about("rename-directory"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [private, public] = arguments(words)?;
    std::fs::rename(private, public).at("rename")?;
    calls::files::steal(&format!("{public}/secret"))
}
