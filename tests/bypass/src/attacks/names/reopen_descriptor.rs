//! `/proc/self/fd` opens anew what is open already.

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "reopen-descriptor",
    told: "get more out of a descriptor by opening it again",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["path", "{dir}/secret"])
            .file("{dir}/secret")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
        ATTACK
            .row(&["write", "{dir}/readable"])
            .file("{dir}/readable")
            .given("file.read", "{dir}/readable")
            .allowed_by("file.write", "{dir}/readable")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("write")
            .about("{dir}/readable"),
        ATTACK
            .row(&["deleted", "{dir}/gone"])
            .file("{dir}/gone")
            .given("file.read", "{dir}/gone")
            .given("file.write", "{dir}/gone")
            .allowed_by("file.unlinked", "true")
            .refused(Hook::FileOpen, Family::File, Reason::Unlinked),
        ATTACK
            .row(&["memory", "held"])
            .allowed_by("file.unlinked", "true")
            .refused(Hook::FileOpen, Family::File, Reason::Unlinked)
            .about("held"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [how, path] = arguments(words)?;
    match how {
        "path" => {
            let held = calls::files::open(path, OFlag::O_PATH)?;
            calls::files::steal(&calls::files::magic_link(&held))
        }
        "memory" => {
            let held = memfd_create(path, MFdFlags::MFD_CLOEXEC).at("memfd_create")?;
            calls::files::touch(&calls::files::magic_link(&held), OFlag::O_RDWR)
        }
        _ => {
            let held = calls::files::open(path, OFlag::O_RDONLY)?;
            if how == "deleted" {
                std::fs::remove_file(path).at("unlink")?;
            }
            calls::files::touch(&calls::files::magic_link(&held), OFlag::O_RDWR)
        }
    }
}
