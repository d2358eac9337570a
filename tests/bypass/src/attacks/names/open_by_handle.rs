//! A file handle is a name without a path.

use std::os::fd::AsRawFd;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "open-by-handle",
    told: "open a secret by its handle",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}", "{dir}/secret"])
            .file("{dir}/secret")
            .given("file.read", "{dir}")
            .allowed_by("file.read", "{dir}/secret")
            .refused(Hook::FileOpen, Family::File, Reason::NoRule)
            .needing("read")
            .about("{dir}/secret"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    let [mount, secret] = arguments(words)?;
    // The directory only tells the file system.
    let mount = calls::files::open(mount, OFlag::O_RDONLY)?;
    let path = calls::c_string(secret).at("path")?;
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
    calls::check(named).at("name_to_handle_at")?;
    // SAFETY: the handle was filled in by the kernel just now.
    let opened = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw const handle, libc::O_RDONLY)
    };
    calls::files::steal_from(calls::descriptor(opened).at("open_by_handle_at")?)
}

/// `struct file_handle` with room for any handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}
