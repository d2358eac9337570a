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

/// Whoever is at the other end of a unix socket.
#[derive(Debug)]
pub struct Peer {
    /// Its effective user when it connected.
    pub user: u32,
    /// Its process then. The number may be another's by now; `process` is not.
    pub pid: u32,
    /// The same process. Before 6.5, which has no better way, found by its number.
    pub process: OwnedFd,
}

/// `SO_PEERPIDFD`, which `libc` lacks.
const SO_PEERPIDFD: libc::c_int = 77;

/// Who is at the other end of a unix socket.
///
/// # Errors
/// When that cannot be told, or when it is gone.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    socket_option(socket, libc::SO_PEERCRED, &mut found)?;
    let pid = u32::try_from(found.pid).map_err(io::Error::other)?;
    let mut process: libc::c_int = -1;
    let process = match socket_option(socket, SO_PEERPIDFD, &mut process) {
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        Ok(()) => unsafe { OwnedFd::from_raw_fd(process) },
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => pidfd_open(pid)?,
        Err(error) => return Err(error),
    };
    Ok(Peer { user: found.uid, pid, process })
}

/// Whether a process has ended.
///
/// # Errors
/// None that a supported kernel returns for a descriptor of a process.
pub fn has_ended(process: BorrowedFd<'_>) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one element, which lives for the call; the descriptor is open as long as it is borrowed.
    Ok(check(i64::from(unsafe { libc::poll(&raw mut poll, 1, 0) }))? != 0)
}

/// Reads an option of a socket. `T` must be a type of C's that any bytes are a value of.
fn socket_option<T: Copy>(socket: BorrowedFd<'_>, option: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut len = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let descriptor = socket.as_raw_fd();
    // SAFETY: `value` has room for `len` bytes and lives for the call, as does `len`; the callers' types take any bytes.
    let done = unsafe {
        libc::getsockopt(descriptor, libc::SOL_SOCKET, option, (&raw mut *value).cast(), &raw mut len)
    };
    check(i64::from(done))?;
    if usize::try_from(len) == Ok(size_of::<T>()) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
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
    use std::os::fd::AsFd as _;

    #[test]
    fn the_other_end_of_a_socket_is_known() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = peer(one.as_fd()).unwrap();
        assert_eq!((peer.pid, peer.user), (std::process::id(), effective_user()));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(super::peer(tcp.as_fd()).is_err(), "only unix sockets know");
    }

    #[test]
    fn a_process_has_ended_or_not() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = pidfd_open(child.id()).unwrap();
        assert!(!has_ended(process.as_fd()).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(has_ended(process.as_fd()).unwrap());
    }

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
