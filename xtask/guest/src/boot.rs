//! PID 1: from the kernel's hand-over to a guest that can run the command.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use vm_guest::{Tier, layout};

use crate::{agent, mounts};

/// Boots the guest. Returns only on failure, which the kernel answers with a panic: PID 1 is gone.
pub(crate) fn run() -> Result<()> {
    mounts::essential()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel release")?;
    let modules = Path::new("/lib/modules").join(release.trim());
    load_modules(&modules)?;
    let job = agent::read_job()?;
    match job.tier {
        Tier::Initramfs => {
            mounts::rebind_root()?;
            // The bind took only the root mount along.
            mounts::essential()?;
            mounts::without_systemd()?;
            // The kernel's own root directory may be writable by all.
            fs::set_permissions("/", fs::Permissions::from_mode(0o755)).context("changing the mode of /")?;
            fs::write("/proc/sys/kernel/hostname", "vm").context("setting the host name")?;
            busybox(&["ip", "link", "set", "lo", "up"])?;
            agent::run_and_power_off()
        }
        Tier::Systemd => {
            mounts::disk(layout::ROOT_SERIAL, "/newroot")?;
            install_into("/newroot", &modules)?;
            mounts::switch_root("/newroot")?;
            Err(Command::new("/sbin/init").exec()).context("starting systemd")
        }
    }
}

/// Loads what the host resolved and ordered for us; a guest has no modules.dep lookup of its own.
fn load_modules(directory: &Path) -> Result<()> {
    let list = fs::read_to_string(layout::MODULES).with_context(|| format!("reading {}", layout::MODULES))?;
    let modules: Vec<String> =
        serde_json::from_str(&list).with_context(|| format!("parsing {}", layout::MODULES))?;
    for module in &modules {
        let path = directory.join(module);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(error).with_context(|| format!("loading {}", path.display())),
        }
    }
    Ok(())
}

/// Copies programs and modules into the disk's root. The disk is a throw-away snapshot, so this needs no
/// overlay and nothing to undo. The initramfs copies are removed to give their memory back.
fn install_into(root: &str, modules: &Path) -> Result<()> {
    let directories = [Path::new(layout::BIN_DIR), Path::new(layout::LIB_DIR), modules];
    for directory in directories.into_iter().filter(|directory| directory.exists()) {
        let target = format!("{root}{}", directory.display());
        move_tree(directory, Path::new(&target))
            .with_context(|| format!("moving {} to {target}", directory.display()))?;
    }
    Ok(())
}

fn move_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            move_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(entry.metadata()?.permissions().mode()))?;
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Runs one busybox applet; the initramfs has no other tools.
pub(crate) fn busybox(arguments: &[&str]) -> Result<()> {
    let status = Command::new("busybox").args(arguments).env("PATH", agent::PATH).status();
    let status = status.with_context(|| format!("running busybox {}", arguments.join(" ")))?;
    anyhow::ensure!(status.success(), "busybox {}: {status}", arguments.join(" "));
    Ok(())
}
