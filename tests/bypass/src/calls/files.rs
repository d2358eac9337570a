//! Opening and reading.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// What the harness writes into the files it makes.
const SECRET: &str = "secret";

pub(crate) fn open(path: &str, flags: OFlag) -> Result<OwnedFd, Failure> {
    nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644)).at("open")
}

/// Opens and closes it again.
pub(crate) fn touch(path: &str, flags: OFlag) -> Outcome {
    open(path, flags).map(|_| String::new())
}

/// Reads a file to its end; success only if it is the secret.
pub(crate) fn steal(path: &str) -> Outcome {
    steal_from(open(path, OFlag::O_RDONLY)?)
}

/// [`steal`] from a descriptor.
pub(crate) fn steal_from(descriptor: OwnedFd) -> Outcome {
    let mut content = String::new();
    File::from(descriptor).read_to_string(&mut content).at("read")?;
    is_secret(content)
}

pub(crate) fn is_secret(content: String) -> Outcome {
    if content == SECRET {
        Ok(content)
    } else {
        Err(Failure { step: format!("read {content:?}"), errno: libc::ENODATA })
    }
}

/// The `/proc/self/fd` name of a descriptor.
pub(crate) fn magic_link(descriptor: &impl std::os::fd::AsRawFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}
