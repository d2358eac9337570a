//! The initramfs of a boot: a base that depends on kernel and busybox only, and the programs. The same programs give the
//! same bytes, which guests with measured boot rely on.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vm_guest::layout;

use super::cpio::Archive;
use super::programs::Program;
use crate::paths::Cache;
use crate::process;
use crate::provision::kernel::Kernel;

/// Loaded before anything else, in both tiers.
const LOADED: &[&str] = &["virtio_pci", "virtio_console", "virtio_blk", "virtio_net", "overlay"];

/// There for the kernel or a test to load on demand, as on a real machine.
const AVAILABLE: &[&str] = &[
    "af_alg",
    "algif_hash",
    "algif_skcipher",
    "binfmt_misc",
    "bridge",
    "br_netfilter",
    "dccp_ipv4",
    "erofs",
    "fuse",
    "ip6_tables",
    "ip_tables",
    "kcm",
    "loop",
    "macvlan",
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_chain_nat",
    "nft_compat",
    "nft_ct",
    "nft_masq",
    "rds",
    "sctp",
    "smc",
    "squashfs",
    "tipc",
    "tls",
    "tun",
    "veth",
    "vsock",
    "vsock_loopback",
    "xt_MASQUERADE",
];

/// Raise when what [`write_base`] writes changes.
const BASE_FORMAT: u32 = 4;

/// A few accounts, because programs ask for names.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n\
    user:x:1000:1000:user:/tmp:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\nuser:x:1000:\n";

/// Writes the initramfs of one boot.
pub(crate) fn write(
    file: &Path,
    cache: &Cache,
    kernel: &Kernel,
    busybox: &Path,
    programs: &[Program],
) -> Result<()> {
    let base = base(cache, kernel, busybox)?;
    fs::copy(&base, file).with_context(|| format!("copying {} to {}", base.display(), file.display()))?;
    let out = fs::OpenOptions::new().append(true).open(file);
    let mut archive =
        Archive::new(BufWriter::new(out.with_context(|| format!("opening {}", file.display()))?));
    let mut libraries = BTreeSet::new();
    for program in programs {
        let packed = program.pack()?;
        archive.file(&format!("{}/{}", layout::BIN_DIR, program.name), 0o755, &packed.bytes)?;
        libraries.extend(packed.libraries);
    }
    for library in libraries {
        let name = library.file_name().context("a library has a name")?.to_string_lossy().into_owned();
        let data = fs::read(&library).with_context(|| format!("reading {}", library.display()))?;
        archive.file(&format!("{}/{name}", layout::LIB_DIR), 0o755, &data)?;
    }
    archive.finish().context("finishing the initramfs")?;
    Ok(())
}

fn base(cache: &Cache, kernel: &Kernel, busybox: &Path) -> Result<PathBuf> {
    let busybox_hash =
        busybox.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let short = busybox_hash.get(..12).unwrap_or(&busybox_hash);
    cache.get_or_make(&format!("initramfs/{}-{short}-{BASE_FORMAT}.cpio", kernel.release), |file| {
        let out = File::create(file).with_context(|| format!("creating {}", file.display()))?;
        write_base(BufWriter::new(out), kernel, busybox).context("writing the base initramfs")
    })
}

fn write_base(out: impl Write, kernel: &Kernel, busybox: &Path) -> Result<()> {
    let mut archive = Archive::new(out);
    for name in ["bin", "sbin", "lib", "lib64"] {
        archive.directory(&format!("/usr/{name}"))?;
        archive.link(&format!("/{name}"), &format!("usr/{name}"))?;
    }
    for path in [
        "/proc",
        "/sys",
        "/dev",
        "/tmp",
        "/run",
        "/root",
        "/mnt",
        "/var/log",
        "/var/tmp",
        "/opt",
        layout::BIN_DIR,
    ] {
        archive.directory(path)?;
    }
    // The kernel opens it for PID 1 before devtmpfs is mounted.
    archive.device("/dev/console", 5, 1)?;
    archive.link("/init", &format!("{}/vm-guest", layout::BIN_DIR))?;
    archive.link("/var/run", "/run")?;
    archive.file("/etc/passwd", 0o644, PASSWD.as_bytes())?;
    archive.file("/etc/group", 0o644, GROUP.as_bytes())?;
    archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost vm\n::1 localhost\n")?;
    let loaded =
        serde_json::to_vec(&kernel.resolve_modules(LOADED)?).context("formatting the list of modules")?;
    archive.file(layout::MODULES, 0o644, &loaded)?;
    write_busybox(&mut archive, busybox)?;
    write_modules(&mut archive, kernel)?;
    write_verity_image(&mut archive)?;
    archive.finish()?;
    Ok(())
}

fn write_busybox(archive: &mut Archive<impl Write>, busybox: &Path) -> Result<()> {
    archive.file("/usr/bin/busybox", 0o755, &fs::read(busybox).context("reading busybox")?)?;
    // A shell's `exec` of a real file is what tests are about, so each applet gets a name of its own.
    let runnable = tempfile::tempdir().context("creating a temporary directory")?;
    let program = runnable.path().join("busybox");
    fs::copy(busybox, &program).context("copying busybox")?;
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let applets = process::text(std::process::Command::new(&program).arg("--list-full"))?;
    for applet in applets.lines() {
        let name = applet.rsplit('/').next().unwrap_or(applet);
        let directory = if applet.contains("sbin/") { "sbin" } else { "bin" };
        if name != "busybox" && name != "init" && !name.is_empty() {
            archive.link(&format!("/usr/{directory}/{name}"), "/usr/bin/busybox")?;
        }
    }
    Ok(())
}

/// An empty ext4 file system that can hold files with fs-verity, which tmpfs cannot. (`tests/vm/src/verity.rs` mounts it.)
fn write_verity_image(archive: &mut Archive<impl Write>) -> Result<()> {
    /// The same every time, like all of the base.
    const IDENTITY: [&str; 4] = [
        "-U",
        "7d0c8a52-6f0e-4d53-9b0f-3a4f1f1f0c01",
        "-E",
        "hash_seed=7d0c8a52-6f0e-4d53-9b0f-3a4f1f1f0c02,root_owner=0:0",
    ];
    let directory = tempfile::tempdir().context("creating a temporary directory")?;
    let image = directory.path().join("verity.ext4");
    let mut mke2fs = process::command("mke2fs");
    mke2fs.env("E2FSPROGS_FAKE_TIME", "1");
    // fs-verity takes blocks of a page before 6.3.
    mke2fs.args(["-q", "-t", "ext4", "-O", "^has_journal,verity", "-b", "4096", "-m", "0", "-N", "64"]);
    process::output(mke2fs.args(IDENTITY).arg(&image).arg("2M")).context("making the image for fs-verity")?;
    archive.directory("/usr/share/vm")?;
    archive.file("/usr/share/vm/verity.ext4", 0o644, &fs::read(&image).context("reading the image")?)?;
    Ok(())
}

fn write_modules(archive: &mut Archive<impl Write>, kernel: &Kernel) -> Result<()> {
    let source = kernel.modules();
    let target = format!("/usr/lib/modules/{}", kernel.release);
    let wanted: Vec<&str> = LOADED.iter().chain(AVAILABLE).copied().collect();
    let included = kernel.resolve_modules(&wanted)?;
    for module in &included {
        let data = fs::read(source.join(module)).with_context(|| format!("reading module {module}"))?;
        archive.file(&format!("{target}/{module}"), 0o644, &data)?;
    }
    // modprobe must not find modules that are not here.
    let dependencies = fs::read_to_string(source.join("modules.dep")).context("reading modules.dep")?;
    let here = |line: &&str| line.split_once(':').is_some_and(|(path, _)| included.iter().any(|m| m == path));
    let dependencies: Vec<&str> = dependencies.lines().filter(here).collect();
    archive.file(&format!("{target}/modules.dep"), 0o644, (dependencies.join("\n") + "\n").as_bytes())?;
    for name in ["modules.alias", "modules.softdep", "modules.symbols", "modules.builtin", "modules.order"] {
        if let Ok(data) = fs::read(source.join(name)) {
            archive.file(&format!("{target}/{name}"), 0o644, &data)?;
        }
    }
    Ok(())
}
