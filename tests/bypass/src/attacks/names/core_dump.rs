//! A process that dies leaves a file with contents of its choice.

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::unistd::{ForkResult, fork};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "core-dump",
    told: "drop a file by dying",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}"])
            .allowed_by("file.create", "{dir}/core")
            .allowed_by("file.read", "{dir}/core")
            .refused(Hook::PathMknod, Family::File, Reason::NoRule)
            .needing("create")
            .about("{dir}/core"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [directory] = arguments(words)?;
    // SAFETY: the child changes only itself and aborts.
    match unsafe { fork() }.at("fork")? {
        ForkResult::Child => {
            let ready = setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY)
                .and_then(|()| nix::unistd::chdir(directory));
            if ready.is_err() {
                calls::process::exit(1);
            }
            // SAFETY: the default action of a signal that nobody handles.
            unsafe { libc::abort() }
        }
        ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None).at("waitpid")?;
            let dropped = Path::new(directory).join("core").exists();
            if dropped { Ok("core".into()) } else { Err(failure("no core", libc::EPERM)) }
        }
    }
}
