//! The root file system of systemd guests: Debian packages, trimmed to what a test needs, as an ext4 image.
//!
//! Built once and cached under a hash of everything that goes in, except package versions: those are whatever
//! the suite had that day. Guests get it as a snapshot, so each boot starts clean.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::apt;
use crate::debian::Mirror;
use crate::paths::Cache;
use crate::{process, ui};

const SUITE: &str = "trixie";

/// The file system with all packages and room for what tests write. The file is sparse.
const IMAGE_MIB: u32 = 3072;

const PACKAGES: &[&str] = &[
    "bash",
    "busybox-static",
    "containerd",
    "crun",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libpython3-stdlib",
    // What the package for hosts depends on.
    "libtss2-esys-3.0.2-0t64",
    "libtss2-tctildr0t64",
    "logrotate",
    "mount",
    "nginx",
    "nodejs",
    "openjdk-21-jre-headless",
    "podman",
    "postgresql-17",
    "procps",
    "python3-minimal",
    "python3-numpy",
    "redis-server",
    "runc",
    "systemd",
    "systemd-sysv",
    "util-linux",
];

/// Units that only cost time in a guest that lives for seconds, on a disk that is thrown away.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "logrotate.timer",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-creds.socket",
    "systemd-firstboot.service",
    "systemd-hibernate-clear.service",
    "systemd-hostnamed.socket",
    "systemd-initctl.socket",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-pcrextend.socket",
    "systemd-pcrlock.socket",
    "systemd-pcrmachine.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-sysext.socket",
    "systemd-sysusers.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    // Comes with the TPM's libraries. Devices that tests look for are devtmpfs's.
    "systemd-udev-load-credentials.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-done.service",
];

/// Files written over the packages' own.
const FILES: &[(&str, &str)] = &[
    (
        "etc/systemd/system/vm-agent.service",
        "[Unit]\n\
         Description=Run the command of this VM and power off\n\
         # Nothing it runs should race with the boot.\n\
         After=multi-user.target\n\n\
         [Service]\n\
         Type=exec\n\
         ExecStart=/usr/local/bin/vm-guest agent\n\
         StandardOutput=journal+console\n\
         StandardError=journal+console\n\
         TasksMax=infinity\n\
         OOMPolicy=continue\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
    ),
    // A fixed identity: without one, systemd treats each boot as the first and applies presets.
    ("etc/machine-id", "7c1f5a0e5d0b4f6e9a3c2b1d0e9f8a7b\n"),
    ("etc/hostname", "vm\n"),
    ("etc/hosts", "127.0.0.1 localhost vm\n::1 localhost\n"),
    ("etc/fstab", ""),
    ("etc/systemd/journald.conf.d/vm.conf", "[Journal]\nStorage=volatile\nRateLimitBurst=0\n"),
    ("etc/systemd/system.conf.d/vm.conf", "[Manager]\nShowStatus=no\nDefaultTimeoutStartSec=120s\n"),
];

/// A Java program, compiled with the compiler that Debian's JRE has on board.
const JAVA: &str = include_str!("../../../tests/vm/software/App.java");

/// Makes `/opt/app/app.jar` of the program on standard input. A hook of mmdebstrap, because Java asks for `/proc`.
const COMPILE_JAVA: &str = r#"set -e
mkdir -p "$1"/opt/app
cat > "$1"/opt/app/App.java
chroot "$1" java -m jdk.compiler/com.sun.tools.javac.Main -d /opt/app /opt/app/App.java
chroot "$1" java -m jdk.jartool/sun.tools.jar.Main -c -f /opt/app/app.jar -e App -C /opt/app App.class"#;

const LINKS: &[(&str, &str)] = &[
    ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
    ("etc/systemd/system/multi-user.target.wants/vm-agent.service", "/etc/systemd/system/vm-agent.service"),
];

/// Enabled by their packages, but for tests to start.
const DISABLED: &[&str] = &[
    "etc/systemd/system/default.target.wants/podman-auto-update.service",
    "etc/systemd/system/default.target.wants/podman-clean-transient.service",
    "etc/systemd/system/default.target.wants/podman-restart.service",
    "etc/systemd/system/default.target.wants/podman.service",
    "etc/systemd/system/multi-user.target.wants/containerd.service",
    "etc/systemd/system/multi-user.target.wants/nginx.service",
    "etc/systemd/system/multi-user.target.wants/postgresql.service",
    "etc/systemd/system/multi-user.target.wants/redis-server.service",
    "etc/systemd/system/sockets.target.wants/podman.socket",
    "etc/systemd/system/timers.target.wants/podman-auto-update.timer",
];

/// The ext4 image.
pub(crate) fn ensure(cache: &Cache) -> Result<PathBuf> {
    let name = format!("rootfs/{}.ext4", recipe_hash());
    if cache.path(&name).exists() {
        return Ok(cache.path(&name));
    }
    apt::ensure(&[apt::Purpose::Setup, apt::Purpose::Vm, apt::Purpose::Rootfs])?;
    let mirror = Mirror::discover()?;
    cache.get_or_make(&name, |image| {
        let step = ui::step(format!("building the root file system of systemd guests ({SUITE})"));
        let root = image.with_extension("root");
        bootstrap(&mirror, &root)?;
        customise(&root)?;
        let mut mke2fs = process::command("mke2fs");
        // No journal: the disk never outlives a boot.
        mke2fs.args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"]).arg(&root).arg(image);
        process::output(mke2fs.arg(format!("{IMAGE_MIB}M")))?;
        step.done();
        ui::note(&format!("it takes {} MB", fs::metadata(image).map_or(0, |image| image.blocks()) / 2048));
        Ok(())
    })
}

fn recipe_hash() -> String {
    let recipe = format!(
        "{SUITE} {IMAGE_MIB} {PACKAGES:?} {MASKED:?} {FILES:?} {LINKS:?} {DISABLED:?} {JAVA} {COMPILE_JAVA}"
    );
    hex::encode(&Sha256::digest(recipe.as_bytes())[..8])
}

fn bootstrap(mirror: &Mirror, root: &Path) -> Result<()> {
    let mut java = tempfile::NamedTempFile::new().context("creating a temporary file")?;
    java.write_all(JAVA.as_bytes()).context("writing the Java program")?;
    // It mounts `/proc` and `/sys` inside. When it is killed those must not stay, least of all for who cleans up after it.
    let mut command = process::command("unshare");
    command
        .args(["--mount", "--propagation=private", "mmdebstrap"])
        .args(["--mode=root", "--variant=minbase", "--components=main"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args(["man", "locale", "doc", "info"].map(|d| format!("--dpkgopt=path-exclude=/usr/share/{d}/*")))
        .arg("--dpkgopt=force-unsafe-io")
        // The JRE's alternatives link manual pages, and fail where there is no directory for them.
        .arg("--essential-hook=mkdir -p \"$1\"/usr/share/man/man1")
        .arg(format!("--customize-hook=exec < {}\n{COMPILE_JAVA}", java.path().display()))
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg("--aptopt=Acquire::Retries \"3\"")
        .arg(SUITE)
        .arg(root)
        .arg(mirror.uri());
    process::output(&mut command).context("building a root directory with mmdebstrap")?;
    Ok(())
}

fn customise(root: &Path) -> Result<()> {
    for (path, text) in FILES {
        write(&root.join(path), |file| fs::write(file, text))?;
    }
    for unit in MASKED {
        write(&root.join("etc/systemd/system").join(unit), |file| {
            std::os::unix::fs::symlink("/dev/null", file)
        })?;
    }
    for (path, target) in LINKS {
        write(&root.join(path), |file| std::os::unix::fs::symlink(target, file))?;
    }
    for path in DISABLED {
        let _ = fs::remove_file(root.join(path));
    }
    // What apt left behind for the next run, which there is none of.
    for path in ["var/lib/apt/lists", "var/cache/apt"] {
        let _ = fs::remove_dir_all(root.join(path));
    }
    Ok(())
}

fn write(file: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let parent = file.parent().context("a file of the root has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let _ = fs::remove_file(file);
    make(file).with_context(|| format!("writing {}", file.display()))
}
