//! System calls that neither `std` nor `nix` wraps.

use std::ffi::CString;
use std::io;

/// Success or `errno`, as `io::Result`.
fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

pub(crate) fn set_xattr(path: &str, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = (c_string(path)?, c_string(name)?);
    // SAFETY: both strings end in NUL and the value is `len` bytes long.
    let result =
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(result.into()).map(drop)
}

pub(crate) fn remove_xattr(path: &str, name: &str) -> io::Result<()> {
    let (path, name) = (c_string(path)?, c_string(name)?);
    // SAFETY: both strings end in NUL.
    check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }.into()).map(drop)
}

/// `mmap(2)` of one page. The protections are the point: nobody uses it, and it stays until the actor ends.
pub(crate) fn map_page(protection: i32, flags: i32, fd: i32) -> io::Result<()> {
    // SAFETY: the kernel chooses a fresh address, so no existing memory changes.
    let address = unsafe { libc::mmap(core::ptr::null_mut(), 4096, protection, flags, fd, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}
