//! Files and directories.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, IntoRawFd as _};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;
use nix::unistd::close;

use super::syscall::{Bytes, Number, Room, Text, syscall};
use super::{Run, accustomed};
use crate::fixture;

const AT_FDCWD: i64 = libc::AT_FDCWD as i64;
const ATTRIBUTE: &CStr = c"trusted.bench";

/// Bytes of a path for system calls.
fn path(path: &str) -> Result<CString> {
    CString::new(path).context("a path has no NUL")
}

/// A path of what operations make and remove.
fn work(name: &str) -> Result<CString> {
    path(&format!("{}/{name}", fixture::WORK))
}

/// A file of its own for one operation.
fn work_file(name: &str) -> Result<CString> {
    let file = format!("{}/{name}", fixture::WORK);
    fs::write(&file, [0; 64]).with_context(|| format!("writing {file}"))?;
    path(&file)
}

fn open_and_close(file: &CStr, flags: OFlag) -> nix::Result<()> {
    // With debug assertions, the standard library asks the kernel about each descriptor that it drops.
    close(open_file(file, flags | OFlag::O_CLOEXEC, Mode::empty())?.into_raw_fd())
}

fn open(file: &str, flags: OFlag) -> Result<Run> {
    let file = path(file)?;
    accustomed(Box::new(move || Ok(open_and_close(&file, flags)?)))
}

pub(super) fn open_shallow(_: u32) -> Result<Run> {
    open(fixture::SHALLOW, OFlag::O_RDONLY)
}

pub(super) fn open_deep(_: u32) -> Result<Run> {
    open(fixture::DEEP, OFlag::O_RDONLY)
}

pub(super) fn open_for_writing(_: u32) -> Result<Run> {
    open(fixture::WRITABLE, OFlag::O_WRONLY)
}

/// New files, so that nobody remembers anything about them.
fn first_open(directory: &str, rounds: u32) -> Result<Run> {
    let mut files = Vec::new();
    for index in 0..rounds {
        let file = format!("{directory}/{index:06}");
        let _ = fs::remove_file(&file);
        syscall(libc::SYS_mknod, [Text(&path(&file)?), Number(i64::from(libc::S_IFREG | 0o600)), Number(0)])?;
        files.push(path(&file)?);
    }
    let mut next = files.into_iter();
    Ok(Box::new(move || {
        let file = next.next().context("a file for each round")?;
        Ok(open_and_close(&file, OFlag::O_RDONLY)?)
    }))
}

pub(super) fn first_open_shallow(rounds: u32) -> Result<Run> {
    first_open(fixture::FRESH_SHALLOW, rounds)
}

pub(super) fn first_open_deep(rounds: u32) -> Result<Run> {
    first_open(fixture::FRESH_DEEP, rounds)
}

pub(super) fn refused_open(_: u32) -> Result<Run> {
    let file = path(fixture::REFUSED)?;
    Ok(Box::new(move || {
        let result = open_and_close(&file, OFlag::O_RDONLY);
        ensure!(is_refused(result), "opening {} gave {result:?}", fixture::REFUSED);
        Ok(())
    }))
}

/// `EPERM` is our refusal, `EACCES` that of others.
pub(super) fn is_refused<T>(result: nix::Result<T>) -> bool {
    matches!(result, Err(Errno::EPERM | Errno::EACCES))
}

pub(super) fn stat(_: u32) -> Result<Run> {
    let file = path(fixture::SHALLOW)?;
    Ok(Box::new(move || Ok(nix::sys::stat::stat(file.as_c_str()).map(drop)?)))
}

pub(super) fn read(_: u32) -> Result<Run> {
    let file = File::open(fixture::SHALLOW).context("opening the file to read")?;
    let mut room = [0; 64];
    Ok(Box::new(move || {
        let length = nix::sys::uio::pread(&file, &mut room, 0)?;
        ensure!(length == room.len(), "read {length} bytes");
        Ok(())
    }))
}

pub(super) fn make_and_unlink(_: u32) -> Result<Run> {
    let file = work("made")?;
    Ok(Box::new(move || {
        syscall(libc::SYS_mknod, [Text(&file), Number(i64::from(libc::S_IFREG | 0o600)), Number(0)])?;
        syscall(libc::SYS_unlink, [Text(&file)])?;
        Ok(())
    }))
}

pub(super) fn make_and_remove_directory(_: u32) -> Result<Run> {
    let directory = work("directory")?;
    Ok(Box::new(move || {
        syscall(libc::SYS_mkdir, [Text(&directory), Number(0o700)])?;
        syscall(libc::SYS_rmdir, [Text(&directory)])?;
        Ok(())
    }))
}

pub(super) fn symlink_and_unlink(_: u32) -> Result<Run> {
    let link = work("symlink")?;
    Ok(Box::new(move || {
        syscall(libc::SYS_symlink, [Text(c"target"), Text(&link)])?;
        syscall(libc::SYS_unlink, [Text(&link)])?;
        Ok(())
    }))
}

pub(super) fn rename(_: u32) -> Result<Run> {
    let (mut from, mut to) = (work_file("old")?, work("new")?);
    Ok(Box::new(move || {
        syscall(libc::SYS_rename, [Text(&from), Text(&to)])?;
        std::mem::swap(&mut from, &mut to);
        Ok(())
    }))
}

pub(super) fn link_and_unlink(_: u32) -> Result<Run> {
    let (file, link) = (work_file("linked")?, work("link")?);
    Ok(Box::new(move || {
        syscall(libc::SYS_link, [Text(&file), Text(&link)])?;
        syscall(libc::SYS_unlink, [Text(&link)])?;
        Ok(())
    }))
}

pub(super) fn truncate(_: u32) -> Result<Run> {
    let file = work_file("truncated")?;
    Ok(Box::new(move || Ok(syscall(libc::SYS_truncate, [Text(&file), Number(64)]).map(drop)?)))
}

pub(super) fn chmod(_: u32) -> Result<Run> {
    let file = work_file("mode")?;
    Ok(Box::new(move || Ok(syscall(libc::SYS_chmod, [Text(&file), Number(0o640)]).map(drop)?)))
}

pub(super) fn chown(_: u32) -> Result<Run> {
    let file = work_file("owner")?;
    Ok(Box::new(move || Ok(syscall(libc::SYS_chown, [Text(&file), Number(0), Number(0)]).map(drop)?)))
}

pub(super) fn set_times(_: u32) -> Result<Run> {
    let file = work_file("times")?;
    Ok(Box::new(move || Ok(syscall(libc::SYS_utimensat, [Number(AT_FDCWD), Text(&file)]).map(drop)?)))
}

fn setxattr(file: &CStr, name: &CStr, value: &[u8]) -> nix::Result<()> {
    let length = i64::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
    syscall(libc::SYS_setxattr, [Text(file), Text(name), Bytes(value), Number(length)]).map(drop)
}

pub(super) fn set_attribute(_: u32) -> Result<Run> {
    let file = work_file("attribute")?;
    Ok(Box::new(move || Ok(setxattr(&file, ATTRIBUTE, b"value")?)))
}

pub(super) fn set_and_remove_attribute(_: u32) -> Result<Run> {
    let file = work_file("attributes")?;
    Ok(Box::new(move || {
        setxattr(&file, ATTRIBUTE, b"value")?;
        Ok(syscall(libc::SYS_removexattr, [Text(&file), Text(ATTRIBUTE)]).map(drop)?)
    }))
}

/// `posix_acl_xattr_header` and its entries: owner, one user, group, mask, others.
const ACL: [u8; 44] = [
    2, 0, 0, 0, //
    1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, //
    2, 0, 4, 0, 0xe8, 3, 0, 0, //
    4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, //
    16, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, //
    32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
];

pub(super) fn set_and_remove_acl(_: u32) -> Result<Run> {
    const NAME: &CStr = c"system.posix_acl_access";
    let file = work_file("acl")?;
    Ok(Box::new(move || {
        setxattr(&file, NAME, &ACL)?;
        Ok(syscall(libc::SYS_removexattr, [Text(&file), Text(NAME)]).map(drop)?)
    }))
}

pub(super) fn set_flags(_: u32) -> Result<Run> {
    const FS_IOC_SETFLAGS: i64 = 0x4008_6602;
    const FS_NODUMP_FL: i64 = 0x40;
    let file = File::open(work_file("flags")?.to_str()?).context("opening the file with flags")?;
    Ok(Box::new(move || {
        let flags = FS_NODUMP_FL.to_ne_bytes();
        let arguments = [Number(file.as_raw_fd().into()), Number(FS_IOC_SETFLAGS), Bytes(&flags)];
        Ok(syscall(libc::SYS_ioctl, arguments).map(drop)?)
    }))
}

pub(super) fn ioctl(_: u32) -> Result<Run> {
    const FIONREAD: i64 = 0x541b;
    let file = File::open(fixture::SHALLOW).context("opening the file")?;
    Ok(Box::new(move || {
        let mut count = [0; 4];
        let arguments = [Number(file.as_raw_fd().into()), Number(FIONREAD), Room(&mut count)];
        syscall(libc::SYS_ioctl, arguments)?;
        ensure!(count != [0; 4], "the file is not empty");
        Ok(())
    }))
}

/// The same as a program of 32 bits does it: by the old gate into the kernel. A command without an argument.
pub(super) fn ioctl_of_old(_: u32) -> Result<Run> {
    const SYS_IOCTL_32: u64 = 54;
    const FIONCLEX: u64 = 0x5450;
    let file = File::open(fixture::SHALLOW).context("opening the file")?;
    let number = u64::try_from(file.as_raw_fd())?;
    Ok(Box::new(move || {
        ensure!(file.as_raw_fd() >= 0, "the file is open");
        let result: u64;
        // SAFETY: a system call that takes no pointers. `rbx` belongs to the compiler, so it is put back; the kernel
        // clears the registers that programs of 32 bits do not have.
        unsafe {
            core::arch::asm!(
                "xchg rbx, {number}",
                "int 0x80",
                "xchg rbx, {number}",
                number = inout(reg) number => _,
                inlateout("rax") SYS_IOCTL_32 => result,
                in("rcx") FIONCLEX,
                in("rdx") 0_u64,
                lateout("r8") _,
                lateout("r9") _,
                lateout("r10") _,
                lateout("r11") _,
            );
        }
        ensure!(result == 0, "gave {}", result.cast_signed());
        Ok(())
    }))
}

/// Whom a file signals: this process.
pub(super) fn set_owner(_: u32) -> Result<Run> {
    let file = File::open(fixture::SHALLOW).context("opening the file")?;
    let own = i64::from(std::process::id());
    Ok(Box::new(move || {
        let arguments = [Number(file.as_raw_fd().into()), Number(libc::F_SETOWN.into()), Number(own)];
        Ok(syscall(libc::SYS_fcntl, arguments).map(drop)?)
    }))
}

pub(super) fn watch(_: u32) -> Result<Run> {
    const IN_ATTRIB: i64 = 4;
    let queue = syscall(libc::SYS_inotify_init1, [Number(0)])?;
    let file = path(fixture::SHALLOW)?;
    Ok(Box::new(move || {
        // The same watch again: nothing is queued, and nothing has to be removed.
        let watch = syscall(libc::SYS_inotify_add_watch, [Number(queue), Text(&file), Number(IN_ATTRIB)])?;
        ensure!(watch > 0, "a watch");
        Ok(())
    }))
}
