//! System calls that neither `std` nor `nix` wraps.

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use enforcer_vm_tests::report::{At, Failure};

use crate::files::owned;

/// Success or `errno`, as `io::Result`.
pub(crate) fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A fresh descriptor that a system call returned.
pub(crate) fn descriptor(result: i64) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    Ok(owned(i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?))
}

pub(crate) fn c_string(text: &str) -> io::Result<CString> {
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

/// `struct file_handle` with room for any handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

/// Opens a file by handle, which involves no name at all.
pub(crate) fn open_by_handle(mount: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Failure> {
    let path = c_string(path).at("path")?;
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let mut mount_id = 0_i32;
    // SAFETY: the kernel writes at most `bytes` bytes of data and one mount id.
    let named = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount_id,
            0,
        )
    };
    check(named).at("name_to_handle_at")?;
    // SAFETY: the handle was filled in by the kernel just now.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw const handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    descriptor(opened).at("open_by_handle_at")
}

/// The constant of the same name in `libc` has overflowed.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks into the cgroup that the directory descriptor stands for. `None` in the child.
pub(crate) fn clone_into_cgroup(directory: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut arguments = libc::clone_args {
        flags: CLONE_INTO_CGROUP,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::try_from(libc::SIGCHLD).unwrap_or_default(),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: u64::try_from(directory.as_raw_fd()).unwrap_or_default(),
    };
    // SAFETY: without CLONE_VM this is a fork; the actor is single threaded when it does this, so the child may run on.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    let pid = check(result)?;
    Ok((pid != 0).then(|| i32::try_from(pid).unwrap_or_default()))
}

/// `socket(2)` with numbers the libraries do not know.
pub(crate) fn raw_socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    descriptor(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }.into())
}

/// `bpf(2)`: creates the smallest possible map.
pub(crate) fn create_bpf_map() -> io::Result<OwnedFd> {
    // BPF_MAP_CREATE of an array with one four-byte element: map_type, key_size, value_size, max_entries.
    let attributes: [u32; 32] = core::array::from_fn(|index| match index {
        0 => 2,
        1 | 2 => 4,
        3 => 1,
        _ => 0,
    });
    // SAFETY: the attributes are 128 bytes, of which the kernel reads as many.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes)) })
}

/// `perf_event_open(2)`: counts the caller's own page faults.
pub(crate) fn perf_event_open() -> io::Result<OwnedFd> {
    // struct perf_event_attr, version 0 (64 bytes): type PERF_TYPE_SOFTWARE, size, config PERF_COUNT_SW_PAGE_FAULTS.
    let mut attributes = [0_u64; 8];
    attributes[0] = 1 | (64 << 32);
    attributes[1] = 2;
    // SAFETY: the attributes have the size they claim.
    descriptor(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) })
}

/// `init_module(2)` with something that is no module.
pub(crate) fn init_module() -> io::Result<()> {
    let image = [0_u8; 64];
    // SAFETY: the image is as long as said and the parameters are an empty string.
    check(unsafe { libc::syscall(libc::SYS_init_module, image.as_ptr(), image.len(), c"".as_ptr()) })
        .map(drop)
}

/// A page of System V shared memory, attached with `SHM_EXEC`.
pub(crate) fn attach_executable_shm() -> Result<(), Failure> {
    // SAFETY: takes no pointers.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o700) };
    check(id.into()).at("shmget")?;
    // SAFETY: the kernel chooses the address.
    let address = unsafe { libc::shmat(id, core::ptr::null(), libc::SHM_EXEC) };
    let attached = if address as isize == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: takes no pointers that matter for IPC_RMID.
    unsafe { libc::shmctl(id, libc::IPC_RMID, core::ptr::null_mut()) };
    attached.at("shmat")
}

/// `mmap(2)` of one page, returned as an address: the protections are the point, so no Rust type owns it.
pub(crate) fn map_page(protection: i32, flags: i32, fd: i32) -> io::Result<*mut c_void> {
    // SAFETY: the kernel chooses a fresh address, so no existing memory changes.
    let address = unsafe { libc::mmap(core::ptr::null_mut(), 4096, protection, flags, fd, 0) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address) }
}

/// `mprotect(2)` of a page that [`map_page`] made.
pub(crate) fn protect_page(page: *mut c_void, protection: i32) -> io::Result<()> {
    // SAFETY: the page was mapped by us and nothing in Rust refers to it.
    check(unsafe { libc::mprotect(page, 4096, protection) }.into()).map(drop)
}

/// Calls code at the address. The caller has put a `ret` there.
pub(crate) fn call(address: *mut c_void) {
    // SAFETY: the callers wrote a return instruction to the address; a fault here kills the actor, which is reported
    // as a missing line.
    let function: extern "C" fn() = unsafe { core::mem::transmute(address) };
    function();
}
