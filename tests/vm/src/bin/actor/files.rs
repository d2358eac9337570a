//! Operations on files and names.

use std::cell::RefCell;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};

use enforcer_vm_tests::report::{At, Failure, Outcome};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, RenameFlags, ResolveFlag, open, openat2, renameat2};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd;

use crate::system;

thread_local! {
    /// Descriptors that `hold` opened, by order.
    static HELD: RefCell<Vec<OwnedFd>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn perform(name: &str, arguments: &[&str]) -> Option<Outcome> {
    Some(match (name, arguments) {
        ("open-read", [path]) => open_with(path, OFlag::O_RDONLY),
        ("open-write", [path]) => open_with(path, OFlag::O_WRONLY),
        ("open-rdwr", [path]) => open_with(path, OFlag::O_RDWR),
        ("open-append", [path]) => open_with(path, OFlag::O_WRONLY | OFlag::O_APPEND),
        ("open-truncate", [path]) => open_with(path, OFlag::O_WRONLY | OFlag::O_TRUNC),
        ("open-read-truncate", [path]) => open_with(path, OFlag::O_RDONLY | OFlag::O_TRUNC),
        ("open-create", [path]) => open_with(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL),
        ("open-create-any", [path]) => open_with(path, OFlag::O_WRONLY | OFlag::O_CREAT),
        ("open-tmpfile", [directory]) => open_with(directory, OFlag::O_RDWR | OFlag::O_TMPFILE),
        ("open-directory", [path]) => open_with(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY),
        ("open-path", [path]) => open_with(path, OFlag::O_PATH),
        ("open-relative", [directory, path]) => open_relative(directory, path),
        ("openat2", [path]) => open_how(path),
        ("open-by-handle", [directory, path]) => open_by_handle(directory, path),
        ("read", [path]) => read(path),
        ("hold", [path]) => hold(path, OFlag::O_RDONLY),
        ("hold-path", [path]) => hold(path, OFlag::O_PATH),
        ("hold-tmpfile", [directory]) => hold(directory, OFlag::O_RDWR | OFlag::O_TMPFILE),
        ("hold-memfd", []) => hold_memfd(),
        ("reopen-held-write", [index]) => reopen(index, OFlag::O_RDWR),
        ("reopen-held-read", [index]) => reopen(index, OFlag::O_RDONLY),
        ("link-held", [index, target]) => link_held(index, target),
        ("truncate", [path]) => unistd::truncate(*path, 0).at("truncate").map(nothing),
        ("unlink", [path]) => unistd::unlink(*path).at("unlink").map(nothing),
        ("rename", [from, to]) => fs::rename(from, to).at("rename").map(nothing),
        ("exchange", [from, to]) => renameat2(AT_FDCWD, *from, AT_FDCWD, *to, RenameFlags::RENAME_EXCHANGE)
            .at("renameat2")
            .map(nothing),
        ("link", [from, to]) => fs::hard_link(from, to).at("link").map(nothing),
        ("symlink", [target, path]) => symlink(target, path).at("symlink").map(nothing),
        ("mkfifo", [path]) => mknod(*path, SFlag::S_IFIFO, Mode::S_IRUSR, 0).at("mknod").map(nothing),
        ("mknod-device", [path]) => device(path),
        ("mkdir", [path]) => fs::create_dir(path).at("mkdir").map(nothing),
        ("rmdir", [path]) => fs::remove_dir(path).at("rmdir").map(nothing),
        ("chmod", [path]) => {
            fs::set_permissions(path, Permissions::from_mode(0o755)).at("chmod").map(nothing)
        }
        ("chown", [path]) => std::os::unix::fs::chown(path, Some(1), Some(1)).at("chown").map(nothing),
        ("setxattr", [path]) => system::set_xattr(path, "trusted.test", b"1").at("setxattr").map(nothing),
        ("removexattr", [path]) => system::remove_xattr(path, "trusted.test").at("removexattr").map(nothing),
        ("chdir", [path]) => std::env::set_current_dir(path).at("chdir").map(nothing),
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

fn open_relative(directory: &str, path: &str) -> Outcome {
    let directory = open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at("open directory")?;
    nix::fcntl::openat(directory, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at("openat")?;
    Ok(String::new())
}

fn open_how(path: &str) -> Outcome {
    let how =
        OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, path, how).at("openat2").map(|_| String::new())
}

/// The directory only tells the file system.
fn open_by_handle(directory: &str, path: &str) -> Outcome {
    let mount = open(directory, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at("open mount")?;
    system::open_by_handle(mount.as_fd(), path).map(|_| String::new())
}

fn read(path: &str) -> Outcome {
    let mut content = Vec::new();
    File::open(path).at("open")?.take(256).read_to_end(&mut content).at("read")?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn keep(fd: OwnedFd) -> String {
    HELD.with_borrow_mut(|held| {
        held.push(fd);
        (held.len() - 1).to_string()
    })
}

fn hold(path: &str, flags: OFlag) -> Outcome {
    open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o600)).at("open").map(keep)
}

fn hold_memfd() -> Outcome {
    nix::sys::memfd::memfd_create(c"held", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .at("memfd_create")
        .map(keep)
}

/// The `/proc/self/fd` name of a held descriptor: by number, or the `last` one.
fn held_name(index: &str) -> Result<String, Failure> {
    let index: Option<usize> = index.parse().ok();
    let find = |held: &Vec<OwnedFd>| match index {
        Some(index) => held.get(index).map(AsRawFd::as_raw_fd),
        None => held.last().map(AsRawFd::as_raw_fd),
    };
    HELD.with_borrow(|held| find(held).map(|fd| format!("/proc/self/fd/{fd}")))
        .ok_or_else(|| Failure { step: "held index".into(), errno: libc::EBADF })
}

fn reopen(index: &str, flags: OFlag) -> Outcome {
    open_with(&held_name(index)?, flags)
}

/// Gives a held file without a name (`O_TMPFILE`) one.
fn link_held(index: &str, target: &str) -> Outcome {
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
    unistd::linkat(AT_FDCWD, held_name(index)?.as_str(), AT_FDCWD, target, flags).at("linkat").map(nothing)
}

fn device(path: &str) -> Outcome {
    // 1:3 is /dev/null everywhere.
    mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR, nix::sys::stat::makedev(1, 3)).at("mknod").map(nothing)
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

/// Takes ownership of a descriptor number that a system call returned.
pub(crate) fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the callers pass the fresh result of a system call that made the descriptor; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
