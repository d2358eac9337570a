//! File systems a guest needs, and the way from the initramfs into another root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

const NOTHING: Option<&str> = None;

/// `/proc`, `/sys`, `/dev`: what everything else needs first.
pub(crate) fn essential() -> Result<()> {
    virtual_fs("proc", "/proc", None)?;
    virtual_fs("sysfs", "/sys", None)?;
    // The kernel mounts devtmpfs itself only on a block-device root.
    virtual_fs("devtmpfs", "/dev", None)
}

/// What systemd would otherwise mount, for a guest without systemd.
pub(crate) fn without_systemd() -> Result<()> {
    virtual_fs("devpts", "/dev/pts", Some("ptmxmode=0666,mode=0620"))?;
    virtual_fs("tmpfs", "/dev/shm", Some("mode=1777"))?;
    virtual_fs("tmpfs", "/tmp", Some("mode=1777"))?;
    virtual_fs("tmpfs", "/run", Some("mode=0755"))?;
    virtual_fs("cgroup2", "/sys/fs/cgroup", None)?;
    virtual_fs("securityfs", "/sys/kernel/security", None)?;
    virtual_fs("bpf", "/sys/fs/bpf", Some("mode=0700"))?;
    virtual_fs("tracefs", "/sys/kernel/tracing", None)?;
    virtual_fs("debugfs", "/sys/kernel/debug", None)
}

fn virtual_fs(kind: &str, target: &str, options: Option<&str>) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("creating {target}"))?;
    mount(Some(kind), target, Some(kind), MsFlags::empty(), options)
        .with_context(|| format!("mounting {kind} on {target}"))
}

/// Mounts the ext4 disk with this virtio serial number.
pub(crate) fn disk(serial: &str, target: &str) -> Result<()> {
    let device = disk_by_serial(serial)?;
    fs::create_dir_all(target).with_context(|| format!("creating {target}"))?;
    mount(Some(&device), target, Some("ext4"), MsFlags::empty(), NOTHING)
        .with_context(|| format!("mounting {} on {target}", device.display()))
}

/// Finds a disk by its serial number, because `vdX` letters depend on probe order.
pub(crate) fn disk_by_serial(serial: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let name = entry?.file_name();
        let found = fs::read_to_string(Path::new("/sys/block").join(&name).join("serial"));
        if found.is_ok_and(|found| found.trim() == serial) {
            return Ok(Path::new("/dev").join(name));
        }
    }
    bail!("no disk with serial {serial}: is virtio_blk loaded?")
}

/// Puts a mount of its own over the kernel's rootfs mount.
///
/// Path walks and `pivot_root` treat the kernel's own rootfs mount specially (it has no parent and cannot be
/// pivoted away), and no real machine runs on it, so neither should the tests.
pub(crate) fn rebind_root() -> Result<()> {
    fs::create_dir_all("/newroot").context("creating /newroot")?;
    mount(Some("/"), "/newroot", NOTHING, MsFlags::MS_BIND, NOTHING).context("binding / on /newroot")?;
    enter("/newroot")
}

/// Makes `new_root` the root of this process and everything it starts, with the essential mounts moved along.
pub(crate) fn switch_root(new_root: &str) -> Result<()> {
    for name in ["proc", "sys", "dev"] {
        let target = format!("{new_root}/{name}");
        mount(Some(format!("/{name}").as_str()), target.as_str(), NOTHING, MsFlags::MS_MOVE, NOTHING)
            .with_context(|| format!("moving /{name} to {target}"))?;
    }
    enter(new_root)
}

fn enter(new_root: &str) -> Result<()> {
    std::env::set_current_dir(new_root).with_context(|| format!("entering {new_root}"))?;
    mount(Some("."), "/", NOTHING, MsFlags::MS_MOVE, NOTHING).context("moving the new root over /")?;
    nix::unistd::chroot(".").context("changing root")?;
    std::env::set_current_dir("/").context("entering the new root")
}
