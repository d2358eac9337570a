//! Operations on files and names.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::system;

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("open-read", [path]) => open_with(path, OFlag::O_RDONLY),
        ("open-write", [path]) => open_with(path, OFlag::O_WRONLY),
        ("open-rdwr", [path]) => open_with(path, OFlag::O_RDWR),
        ("open-create", [path]) => open_with(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL),
        ("open-create-any", [path]) => open_with(path, OFlag::O_WRONLY | OFlag::O_CREAT),
        ("open-each", [rounds, paths @ ..]) => open_each(rounds, paths),
        ("hold", [path]) => hold(path),
        ("mkdir", [path]) => nix::unistd::mkdir(*path, Mode::S_IRWXU).at("mkdir").map(nothing),
        ("read", [path]) => read(path),
        ("setxattr", [path]) => system::set_xattr(path, "trusted.test", b"1").at("setxattr").map(nothing),
        ("removexattr", [path]) => system::remove_xattr(path, "trusted.test").at("removexattr").map(nothing),
        ("deep-open", [directory, component, depth]) => deep_open(directory, component, depth),
        _ => return None,
    })
}

fn nothing((): ()) -> String {
    String::new()
}

fn open_with(path: &str, flags: OFlag) -> Outcome {
    open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644)).at("open").map(|_| String::new())
}

/// Opens each path for reading, all of them as often as asked. Tells of each open whether it succeeded (`+`), was refused
/// (`-`), or failed in another way (`?`).
fn open_each(rounds: &str, paths: &[&str]) -> Outcome {
    let rounds: usize = rounds.parse().map_err(|_| Failure { step: "rounds".into(), errno: libc::EINVAL })?;
    let one = |path: &&str| match open(*path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(_) => '+',
        Err(nix::errno::Errno::EPERM) => '-',
        Err(_) => '?',
    };
    Ok((0..rounds).flat_map(|_| paths.iter().map(one)).collect())
}

/// Opens a path for good; tells the number of the descriptor.
fn hold(path: &str) -> Outcome {
    let held = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at("open")?;
    Ok(std::os::fd::IntoRawFd::into_raw_fd(held).to_string())
}

fn read(path: &str) -> Outcome {
    let mut content = Vec::new();
    File::open(path).at("open")?.take(256).read_to_end(&mut content).at("read")?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Opens `file` below `depth` directories that are all called `component`, step by step, so that the whole name may be
/// longer than one system call takes.
fn deep_open(directory: &str, component: &str, depth: &str) -> Outcome {
    let depth: usize = depth.parse().map_err(|_| Failure { step: "depth".into(), errno: libc::EINVAL })?;
    let mut at = open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at("open directory")?;
    for _ in 0..depth {
        at = nix::fcntl::openat(&at, component, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .at("descend")?;
    }
    nix::fcntl::openat(&at, "file", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at("openat")?;
    Ok(String::new())
}

/// A descriptor opened for reading, for other modules.
pub(crate) fn reading(path: &str) -> Result<OwnedFd, Failure> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at("open")
}
