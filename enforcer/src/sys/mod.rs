//! System calls that neither the standard library nor aya offers, as safe functions.
//!
//! The only `unsafe` of this crate besides [`crate::kernel::pod`] and [`crate::tpm`]'s calls into libtss2.

pub mod bpf;

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::Duration,
};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor for a process.
///
/// # Errors
/// `ESRCH` when it is gone, `EINVAL` when `pid` is not a process but a thread.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The fs-verity digest of an open file, if it has one that was made with SHA-256.
///
/// # Errors
/// What `FS_IOC_MEASURE_VERITY` fails with, other than that there is none, or that the file system has no fs-verity.
pub fn fsverity_digest(file: BorrowedFd<'_>) -> io::Result<Option<[u8; 32]>> {
    const SHA256: u16 = 1;
    /// `struct fsverity_digest` with room for SHA-256.
    #[repr(C)]
    struct Measured {
        algorithm: u16,
        size: u16,
        digest: [u8; 32],
    }
    /// `_IOWR('f', 134, struct fsverity_digest)`: the four bytes before the digest count.
    const FS_IOC_MEASURE_VERITY: libc::Ioctl = 0xc004_6686_u32 as libc::Ioctl;
    let mut measured = Measured { algorithm: 0, size: 32, digest: [0; 32] };
    // SAFETY: `measured` has room for as many bytes of a digest as it says, and outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_MEASURE_VERITY, &raw mut measured) };
    match check(i64::from(result)) {
        Ok(_) => Ok((measured.algorithm == SHA256).then_some(measured.digest)),
        // EOVERFLOW: a longer digest, so of the other algorithm.
        Err(error) => match error.raw_os_error() {
            Some(libc::ENODATA | libc::ENOTTY | libc::EOPNOTSUPP | libc::EOVERFLOW) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Time since boot with sleep included: the clock of event records.
///
/// # Errors
/// None that a supported kernel returns.
pub fn boot_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that lives for the call.
    check(i64::from(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) }))?;
    Ok(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Random bytes from the kernel. Waits, early at boot, until there are any.
///
/// # Errors
/// None that a supported kernel returns.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: `bytes` has room for `N` bytes and lives for the call.
    let got = check_len(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) })?;
    // At most 256 bytes are delivered whole or not at all (getrandom(2)).
    if got == N { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Lets a task wait until a descriptor is readable. Works on a duplicate, so the original stays its owner's.
///
/// # Errors
/// When the descriptor cannot be duplicated or waited for.
pub fn readiness(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let duplicate = fd.try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` gives the same descriptor each time, and closes it only when it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(duplicate, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}

/// The effective user.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether the effective user is root.
#[must_use]
pub fn is_root() -> bool {
    effective_user() == 0
}

/// Fills `SIGPIPE`'s default in, so that `enforcer events | head` ends quietly.
pub fn die_of_broken_pipes() {
    // SAFETY: changes a signal's disposition to a default; no handler of ours is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Sets a variable of the environment, for a C library that reads it, unless it is set already.
///
/// # Errors
/// When other threads exist, which might read the environment meanwhile; then nothing is set.
pub fn default_variable(name: &CStr, value: &CStr) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a variable must be set before threads are started"));
    }
    // SAFETY: both strings end with a zero byte and live for the call, which copies them. No other thread reads or writes
    // the environment: there is none, and only this one could start any.
    check(i64::from(unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 0) })).map(drop)
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The raw number behind a descriptor, as map values and attributes want it.
fn raw(fd: &impl std::os::fd::AsFd) -> u32 {
    fd.as_fd().as_raw_fd().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_left_alone_once_there_are_threads() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || ended.recv());
        assert!(default_variable(c"ENFORCER_TEST_VARIABLE", c"value").is_err());
        assert_eq!(std::env::var_os("ENFORCER_TEST_VARIABLE"), None);
        drop(end);
        assert!(other.join().unwrap().is_err());
    }
}
