//! File systems take commands through any descriptor of theirs, open for reading.

use std::os::fd::AsRawFd;
use std::process::Command;

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "file-system-commands",
    told: "have a file system stand still",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

/// Where the initramfs has an empty ext4 image.
const IMAGE: &str = "/usr/share/vm/verity.ext4";

fn rows() -> Vec<Case> {
    vec![
        ATTACK
            .row(&["{dir}/mnt"])
            .directory("{dir}/mnt")
            .prepared(ext4)
            .given("file.read", "{dir}/mnt")
            .allowed_by("privileges.allow", "file-system")
            .refused(Hook::FileIoctl, Family::Privilege, Reason::Privilege)
            .about("file-system"),
    ]
}

fn run(words: &[&str]) -> Outcome {
    const FIFREEZE: libc::Ioctl = 0xc004_5877;
    const FITHAW: libc::Ioctl = 0xc004_5878;
    let [at] = arguments(words)?;
    let file = calls::files::open(at, OFlag::O_RDONLY)?;
    // SAFETY: neither command reads or writes our memory.
    let command = |command: libc::Ioctl| calls::check(unsafe { libc::ioctl(file.as_raw_fd(), command, 0) });
    command(FIFREEZE).at("FIFREEZE")?;
    command(FITHAW).at("FITHAW").map(calls::nothing)
}

/// An ext4 of the row's own.
fn ext4(directory: &Path) {
    let (image, at) = (directory.join("image"), directory.join("mnt"));
    std::fs::copy(IMAGE, &image).expect("copying the image");
    let _ = Command::new("modprobe").arg("loop").status();
    let mounted = Command::new("mount").args(["-t", "ext4", "-o", "loop"]).args([&image, &at]).status();
    assert!(
        mounted.as_ref().is_ok_and(|status| status.success()),
        "mounting {}: {mounted:?}",
        image.display()
    );
}
