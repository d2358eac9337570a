//! Stands in for a service manager: joins a cgroup, does set-up work there, and starts the workload's program.
//!
//! `launcher CGROUP-DIR [--touch FILE]… -- PROGRAM ARG…`. The files it touches are set-up work: it opens them for
//! writing after joining, which the workload's policy need not allow. Exit status 71 means that joining failed, 72
//! that a touch was refused, 73 that the program was refused.
#![allow(clippy::print_stderr, reason = "the reason of a failure is for the test's log")]

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let split = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
    let (own, rest) = arguments.split_at(split);
    let [cgroup, touches @ ..] = own else { return 64.into() };
    if let Err(error) = std::fs::write(std::path::Path::new(cgroup).join("cgroup.procs"), "0") {
        eprintln!("launcher: joining {}: {error}", cgroup.display());
        return 71.into();
    }
    for file in touches.iter().filter(|word| *word != "--touch") {
        if let Err(error) = std::fs::OpenOptions::new().create(true).append(true).open(file) {
            eprintln!("launcher: touching {}: {error}", file.display());
            return 72.into();
        }
    }
    let program: Vec<CString> =
        rest.iter().skip(1).filter_map(|word| CString::new(word.clone().into_vec()).ok()).collect();
    let Some(path) = program.first() else { return 64.into() };
    let Err(error) = nix::unistd::execv(path, &program);
    eprintln!("launcher: starting {}: {error}", path.to_string_lossy());
    73.into()
}
