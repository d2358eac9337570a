//! Kernels for the guests: Debian's cloud images, unpacked, with module dependencies resolved.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::lock::{LockedKernel, is_prefix};
use crate::debian::{Mirror, Package, version};
use crate::paths::Cache;
use crate::{process, ui};

/// The matrix: version prefix and the suite that carries it.
pub(crate) const SERIES: [(&str, &str); 4] =
    [("6.1", "bookworm"), ("6.12", "trixie"), ("6.18", "trixie-backports"), ("7", "trixie-backports")];

/// A kernel ready to boot. Holding one means image and modules are unpacked.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// Major and minor number.
    pub(crate) name: String,
    /// `uname -r`.
    pub(crate) release: String,
    directory: PathBuf,
}

impl Kernel {
    /// Unpacks the kernel unless the cache has it.
    pub(crate) fn ensure(cache: &Cache, locked: &LockedKernel) -> Result<Self> {
        if let Some(kernel) = Self::cached(cache, locked) {
            return Ok(kernel);
        }
        let mirror = Mirror::discover()?;
        match fetch(cache, &mirror, locked) {
            Ok(debs) => Self::unpack(cache, locked, &debs),
            Err(error) => {
                ui::warn(&format!("the pinned kernel {} cannot be had ({error:#})", locked.release));
                let newest = newest(cache, &mirror, &locked.series, &locked.suite)?;
                ui::warn(&format!(
                    "falling back to {}, the newest {} in {}, verified by the signed index; \
                     `cargo xtask setup --update-kernels` pins it",
                    newest.release, newest.series, newest.suite
                ));
                Self::unpack(cache, &newest, &fetch(cache, &mirror, &newest)?)
            }
        }
    }

    fn cached(cache: &Cache, locked: &LockedKernel) -> Option<Self> {
        let directory = cache.path(&entry_name(locked)?);
        directory.exists().then(|| Self::at(directory, locked))
    }

    fn unpack(cache: &Cache, locked: &LockedKernel, debs: &[PathBuf]) -> Result<Self> {
        let name = entry_name(locked).context("a kernel without packages")?;
        let directory = cache.get_or_make(&name, |directory| {
            let step = ui::step(format!("unpacking kernel {}", locked.release));
            unpack_into(directory, debs, &locked.release)?;
            step.done();
            Ok(())
        })?;
        for deb in debs {
            // The unpacked form is all that is used from here on.
            let _ = fs::remove_file(deb);
        }
        Ok(Self::at(directory, locked))
    }

    fn at(directory: PathBuf, locked: &LockedKernel) -> Self {
        Self { name: locked.name(), release: locked.release.clone(), directory }
    }

    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The module directory, uncompressed, with `modules.dep`.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join("lib/modules").join(&self.release)
    }

    /// These modules and all they depend on, each once, in an order that loads. Names that are built in or do not
    /// exist in this kernel resolve to nothing.
    pub(crate) fn resolve_modules(&self, names: &[&str]) -> Result<Vec<String>> {
        let file = self.modules().join("modules.dep");
        let dependencies =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(load_order(&dependencies, names))
    }
}

fn fetch(cache: &Cache, mirror: &Mirror, locked: &LockedKernel) -> Result<Vec<PathBuf>> {
    locked.packages.iter().map(|package| mirror.fetch(cache, package)).collect()
}

/// Changes whenever any of the packages does.
fn entry_name(locked: &LockedKernel) -> Option<String> {
    let hashes: Vec<&str> = locked.packages.iter().filter_map(|package| package.sha256.get(..12)).collect();
    (!hashes.is_empty()).then(|| format!("kernels/{}-{}", locked.release, hashes.join("-")))
}

fn unpack_into(directory: &Path, debs: &[PathBuf], release: &str) -> Result<()> {
    let root = directory.with_extension("debs");
    for deb in debs {
        process::output(process::command("dpkg-deb").arg("--extract").arg(deb).arg(&root))?;
    }
    let modules = directory.join("lib/modules").join(release);
    fs::create_dir_all(directory.join("lib/modules")).context("creating the module directory")?;
    // Debian moved modules below /usr, and later the image beside them, between the kernels of the matrix.
    let found = ["usr/lib/modules", "lib/modules"].map(|place| root.join(place).join(release));
    let found = found.into_iter().find(|path| path.exists()).context("the packages hold no modules")?;
    let images = [root.join(format!("boot/vmlinuz-{release}")), found.join("vmlinuz")];
    let image = images.iter().find(|path| path.exists()).context("the packages hold no image")?;
    fs::rename(image, directory.join("vmlinuz")).context("moving the image")?;
    fs::rename(found, &modules).context("moving the modules")?;
    // Guests load modules without a decompressor, and depmod records the names it sees.
    process::output(process::command("find").arg(&modules).args([
        "-name",
        "*.ko.xz",
        "-exec",
        "xz",
        "--decompress",
        "{}",
        "+",
    ]))?;
    process::output(process::command("depmod").arg("--basedir").arg(directory).arg(release))?;
    fs::remove_dir_all(&root).context("removing the unpacked packages")
}

fn load_order(modules_dep: &str, names: &[&str]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for name in names {
        let line = modules_dep.lines().filter_map(|line| line.split_once(':'));
        let Some((path, dependencies)) = line.into_iter().find(|(path, _)| module_name(path) == *name) else {
            continue;
        };
        // depmod lists dependencies so that loading from the last to the first works.
        for module in dependencies.split_whitespace().rev().chain([path]) {
            if seen.insert(module) {
                order.push(module.to_owned());
            }
        }
    }
    order
}

/// `kernel/drivers/block/virtio_blk.ko` → `virtio_blk`; dashes and underscores are the same to the kernel.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// The newest kernel of a series in a suite's signed index.
pub(crate) fn newest(cache: &Cache, mirror: &Mirror, series: &str, suite: &str) -> Result<LockedKernel> {
    let packages = mirror.packages(cache, suite, |name| {
        ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            && name.ends_with("-cloud-amd64")
    })?;
    choose(&packages, series, suite)
}

fn choose(packages: &[Package], series: &str, suite: &str) -> Result<LockedKernel> {
    let image = packages
        .iter()
        .filter(|package| {
            package.name.starts_with("linux-image-") && package.name != "linux-image-cloud-amd64"
        })
        .filter(|package| is_prefix(series, version::upstream(&package.version)))
        .max_by(|a, b| version::compare(&a.version, &b.version));
    let Some(image) = image else { bail!("{suite} has no cloud kernel {series}") };
    let release = image.name.trim_start_matches("linux-image-");
    let part = |kind: &str| {
        let name = format!("linux-{kind}-{release}");
        packages.iter().find(|package| package.name == name && package.version == image.version).cloned()
    };
    // Since 6.19 the image package is empty and these two hold the files. The list of built-in modules has moved
    // to a base package.
    let mut packages = match (part("binary"), part("modules")) {
        (Some(binary), Some(modules)) => vec![binary, modules],
        _ => vec![image.clone()],
    };
    packages.extend(part("base"));
    Ok(LockedKernel { series: series.into(), suite: suite.into(), release: release.into(), packages })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package { name: name.into(), version: version.into(), path: String::new(), sha256: String::new() }
    }

    #[test]
    fn dependencies_load_first_and_once() {
        let dep = "kernel/net/failover.ko:\nkernel/drivers/net/net_failover.ko: kernel/net/failover.ko\n\
            kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/failover.ko\n\
            kernel/drivers/char/hw_random/virtio-rng.ko:\n";
        let order = load_order(dep, &["virtio_net", "missing", "virtio_rng", "failover"]);
        let expected = [
            "kernel/net/failover.ko",
            "kernel/drivers/net/net_failover.ko",
            "kernel/drivers/net/virtio_net.ko",
            "kernel/drivers/char/hw_random/virtio-rng.ko",
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn the_newest_of_the_series_is_chosen() {
        let offered = [
            package("linux-image-cloud-amd64", "6.12.107-1"),
            package("linux-image-6.12.94+deb13-cloud-amd64", "6.12.94-1"),
            package("linux-image-6.12.107+deb13-cloud-amd64", "6.12.107-1"),
            package("linux-image-6.1.0-50-cloud-amd64", "6.1.176-1"),
        ];
        let chosen = choose(&offered, "6.12", "trixie").unwrap();
        assert_eq!((chosen.release.as_str(), chosen.packages.len()), ("6.12.107+deb13-cloud-amd64", 1));
        assert_eq!(choose(&offered, "6.1", "bookworm").unwrap().version(), "6.1.176");
        assert!(choose(&offered, "5.10", "bullseye").is_err());
    }

    #[test]
    fn split_packages_are_followed() {
        let offered = [
            package("linux-image-7.3.4+deb13-cloud-amd64", "7.3.4-1"),
            package("linux-binary-7.3.4+deb13-cloud-amd64", "7.3.4-1"),
            package("linux-modules-7.3.4+deb13-cloud-amd64", "7.3.4-1"),
        ];
        let chosen = choose(&offered, "7", "trixie-backports").unwrap();
        let names: Vec<_> = chosen.packages.iter().map(|p| p.name.split('-').nth(1).unwrap()).collect();
        assert_eq!(names, ["binary", "modules"]);
        assert_eq!(chosen.name(), "7.3");
    }
}
