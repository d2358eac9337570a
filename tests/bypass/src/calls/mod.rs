//! System calls, as attackers need them.
//!
//! What neither `std` nor `nix` wraps, and what several attacks have in common. What only one attack calls is in its
//! own file.

pub(crate) mod bpf;
pub(crate) mod compat;
pub(crate) mod files;
pub(crate) mod memory;
pub(crate) mod modules;
pub(crate) mod mounts;
pub(crate) mod process;
pub(crate) mod race;
pub(crate) mod sockets;
pub(crate) mod uring;

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

/// Success or `errno`.
pub(crate) fn check(result: impl Into<i64>) -> io::Result<i64> {
    let result = result.into();
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A fresh descriptor that a system call returned.
pub(crate) fn descriptor(result: impl Into<i64>) -> io::Result<OwnedFd> {
    let number = check(result)?;
    let number = i32::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the callers pass the result of a system call that made the descriptor just now; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor that this process was started with.
pub(crate) fn borrowed(number: i32) -> BorrowedFd<'static> {
    // SAFETY: nobody closes what was inherited.
    unsafe { BorrowedFd::borrow_raw(number) }
}

pub(crate) fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// The outcome of an operation that has nothing to tell.
pub(crate) fn nothing<T>(_: T) -> String {
    String::new()
}

/// A number among the arguments.
pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Result<T, enforcer_vm_tests::report::Failure> {
    text.parse().map_err(|_| crate::attack::failure("a number", libc::EINVAL))
}
