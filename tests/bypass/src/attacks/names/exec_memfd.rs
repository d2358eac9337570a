//! Anonymous memory holds a program that was never on a disk.

use std::io::Write;

use enforcer_vm_tests::stub;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "exec-memfd",
    told: "start a program from memory",
    kernels: Kernels::All,
    ordinary: true,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    let memory = |how: &str| {
        ATTACK
            .row(&[how, "dropped"])
            .allowed_by("exec.unlinked", "true")
            .refused(Hook::BprmCheckSecurity, Family::Exec, Reason::Unlinked)
            .needing("exec")
            .about("dropped")
    };
    vec![memory("execveat"), memory("sealed"), memory("proc-self-fd")]
}

fn run(words: &[&str]) -> Outcome {
    let [how, name] = arguments(words)?;
    let memory =
        memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).at("memfd_create")?;
    let mut file = std::fs::File::from(memory.try_clone().at("dup")?);
    file.write_all(&stub::exiting(0)).at("write")?;
    drop(file);
    match how {
        "sealed" => {
            let seals = SealFlag::all() - SealFlag::F_SEAL_FUTURE_WRITE;
            fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).at("seal")?;
            calls::process::spawn(|| calls::process::exec_descriptor(&memory))
        }
        "proc-self-fd" => calls::process::run(&calls::files::magic_link(&memory)),
        _ => calls::process::spawn(|| calls::process::exec_descriptor(&memory)),
    }
}
