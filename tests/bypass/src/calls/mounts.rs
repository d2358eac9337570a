//! The newer system calls for mounting.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use enforcer_vm_tests::report::{At, Failure, Outcome};
use enforcer_vm_tests::scenario::make_executable;
use enforcer_vm_tests::stub;
use nix::mount::{MsFlags, mount};

/// `FSCONFIG_CMD_CREATE`
pub(crate) const CREATE: u32 = 6;
/// `FSCONFIG_CMD_RECONFIGURE`
pub(crate) const RECONFIGURE: u32 = 7;

/// `MOUNT_ATTR_RDONLY`
pub(crate) const READ_ONLY: u32 = 1;

const FSCONFIG_SET_FLAG: u32 = 0;
const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

/// A detached copy of the mount at `path`.
pub(crate) fn open_tree(path: &str) -> Result<OwnedFd, Failure> {
    let path = super::c_string(path).at("path")?;
    // SAFETY: the name ends in NUL.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), OPEN_TREE_CLONE) };
    super::descriptor(tree).at("open_tree")
}

pub(crate) fn move_mount(tree: &OwnedFd, at: &str) -> Outcome {
    let at = super::c_string(at).at("path")?;
    // SAFETY: both names end in NUL.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    super::check(moved).at("move_mount").map(super::nothing)
}

pub(crate) fn fsopen(kind: &str) -> Result<OwnedFd, Failure> {
    let kind = super::c_string(kind).at("name")?;
    // SAFETY: the name ends in NUL.
    super::descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 0) }).at("fsopen")
}

pub(crate) fn fspick(path: &str) -> Result<OwnedFd, Failure> {
    let path = super::c_string(path).at("path")?;
    // SAFETY: the name ends in NUL.
    super::descriptor(unsafe { libc::syscall(libc::SYS_fspick, libc::AT_FDCWD, path.as_ptr(), 0) })
        .at("fspick")
}

pub(crate) fn set_flag(context: &OwnedFd, flag: &CStr) -> Result<(), Failure> {
    let none = core::ptr::null::<u8>();
    // SAFETY: the flag ends in NUL and takes no value.
    let set = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_SET_FLAG, flag.as_ptr(), none, 0)
    };
    super::check(set).at("fsconfig flag").map(drop)
}

pub(crate) fn configure(context: &OwnedFd, command: u32) -> Result<(), Failure> {
    let none = core::ptr::null::<u8>();
    // SAFETY: the commands take neither key nor value.
    let done = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, none, none, 0) };
    super::check(done).at("fsconfig").map(drop)
}

pub(crate) fn fsmount(context: &OwnedFd, attributes: u32) -> Result<OwnedFd, Failure> {
    // SAFETY: takes no pointers.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, attributes) };
    super::descriptor(mount).at("fsmount")
}

/// Mounts an overlay on `merged`, with a secret and a program in its lower layer, if this kernel has overlayfs.
pub(crate) fn overlay(directory: &Path) {
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(directory.join(name)).expect("creating a layer");
    }
    std::fs::write(directory.join("lower/secret"), "secret").expect("creating a file");
    make_executable(&directory.join("lower/evil"), &stub::exiting(0));
    let layer = |name: &str| format!("{}/{name}", directory.display());
    let options =
        format!("lowerdir={},upperdir={},workdir={}", layer("lower"), layer("upper"), layer("work"));
    let at = directory.join("merged");
    let mounted = mount(Some("overlay"), &at, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    if let Err(error) = mounted {
        println!("overlayfs is not to be had: {error}");
    }
}
