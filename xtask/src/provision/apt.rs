//! Debian packages installed on the machine itself: one table, each entry with its reason.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, ui};

/// Which verbs need a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Getting and unpacking everything else.
    Setup,
    /// Compiling this workspace.
    Build,
    /// Booting a guest.
    Vm,
    /// Building the systemd guest's root file system.
    Rootfs,
    /// Tests and guests with a TPM.
    Tpm,
    /// Guests that boot through firmware.
    Uefi,
    /// Packages for hosts.
    Package,
    /// Checking Kubernetes manifests.
    Manifests,
}

const PACKAGES: &[(&str, Purpose, &str)] = &[
    ("debian-archive-keyring", Purpose::Setup, "keys that sign the package indexes"),
    ("gpgv", Purpose::Setup, "checks those signatures"),
    ("xz-utils", Purpose::Setup, "unpacks package indexes and kernel modules"),
    ("gcc", Purpose::Build, "links every Rust program; brings strip"),
    ("g++", Purpose::Build, "compiles libFuzzer"),
    ("libc6-dev", Purpose::Build, "the C library to link with, also statically"),
    ("pkg-config", Purpose::Build, "finds C libraries for build scripts"),
    (
        "libtss2-dev",
        Purpose::Build,
        "the TPM 2.0 software stack that tss-esapi links with, and what it opens by name to reach a TPM",
    ),
    ("patchelf", Purpose::Vm, "points programs with shared libraries to their copies in the guest"),
    ("qemu-system-x86", Purpose::Vm, "the virtual machine"),
    ("e2fsprogs", Purpose::Vm, "mke2fs -d and debugfs: images from directories and back, without mounting"),
    ("kmod", Purpose::Vm, "depmod: the kernel packages leave the dependency list to the installing machine"),
    ("mmdebstrap", Purpose::Rootfs, "makes a Debian root directory"),
    ("swtpm", Purpose::Tpm, "the TPM emulator, for tests and behind QEMU's TPM device"),
    ("rpm", Purpose::Package, "reads finished .rpm packages back"),
    ("python3-venv", Purpose::Manifests, "keeps the validators of manifests apart from everything else"),
    ("ovmf", Purpose::Uefi, "UEFI firmware that measures what it starts"),
];

/// Installs what is missing for these purposes. Where that is impossible, says exactly what to install.
pub(crate) fn ensure(purposes: &[Purpose]) -> Result<()> {
    let wanted: Vec<_> = PACKAGES.iter().filter(|(_, purpose, _)| purposes.contains(purpose)).collect();
    let missing = missing(&wanted.iter().map(|(name, ..)| *name).collect::<Vec<_>>())?;
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    if !Path::new("/etc/debian_version").exists() {
        bail!("{}this is not a Debian machine: install the equivalents by hand", listing(&missing));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("{}not root: run `{command}` as root, then try again", listing(&missing));
    }
    let step = ui::step(format!("installing {}", missing.join(" ")));
    if install(&missing).is_err() {
        // The usual reason: lists that are missing, as in container images, or older than the archive.
        process::output(apt_get().arg("update")).context("updating apt's package lists")?;
        install(&missing)?;
    }
    step.done();
    Ok(())
}

fn missing<'a>(names: &[&'a str]) -> Result<Vec<&'a str>> {
    let Some(dpkg_query) = process::find("dpkg-query") else { return Ok(names.to_vec()) };
    // Fails when it does not know a name at all, but still lists the others: the status says nothing.
    let output = Command::new(dpkg_query)
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(names)
        .output()
        .context("asking dpkg what is installed")?;
    let listing = String::from_utf8_lossy(&output.stdout);
    let installed = |name: &&&str| listing.lines().any(|line| line == format!("{name} installed"));
    Ok(names.iter().filter(|name| !installed(name)).copied().collect())
}

fn listing(missing: &[&str]) -> String {
    let reasons = PACKAGES.iter().filter(|(name, ..)| missing.contains(name));
    let lines = reasons.map(|(name, _, reason)| format!("  {name:24} {reason}\n"));
    format!("these packages are missing:\n{}", lines.collect::<String>())
}

fn install(packages: &[&str]) -> Result<()> {
    let mut command = apt_get();
    command.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    process::output(&mut command).context("installing packages")?;
    Ok(())
}

fn apt_get() -> Command {
    let mut command = process::command("apt-get");
    // Another installation on the same machine is waited for instead of failed on.
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
    command
}
