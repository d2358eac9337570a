//! The user space of initramfs guests: one static program.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::debian::{Mirror, Package, version};
use crate::paths::Cache;
use crate::{process, ui};

const NAME: &str = "busybox-static";
const SUITE: &str = "trixie";

/// The unpacked busybox program.
pub(crate) fn ensure(cache: &Cache, package: &Package) -> Result<PathBuf> {
    cache.get_or_make(&format!("busybox/{}", package.sha256), |file| {
        let mirror = Mirror::discover()?;
        let deb = match mirror.fetch(cache, package) {
            Ok(deb) => deb,
            Err(error) => {
                ui::warn(&format!("pinned {NAME} {} cannot be had ({error:#})", package.version));
                let newest = newest(cache, &mirror)?;
                ui::warn(&format!("falling back to {NAME} {}, verified by the signed index", newest.version));
                mirror.fetch(cache, &newest)?
            }
        };
        let root = tempfile::tempdir().context("creating a temporary directory")?;
        process::output(process::command("dpkg-deb").arg("--extract").arg(deb).arg(root.path()))?;
        for place in ["usr/bin/busybox", "bin/busybox"] {
            if root.path().join(place).exists() {
                fs::copy(root.path().join(place), file).context("copying busybox")?;
                return Ok(());
            }
        }
        bail!("{NAME} {} has no busybox in it", package.version)
    })
}

/// What the archive offers now.
pub(crate) fn newest(cache: &Cache, mirror: &Mirror) -> Result<Package> {
    let found = mirror.packages(cache, SUITE, |name| name == NAME)?;
    let newest = found.into_iter().max_by(|a, b| version::compare(&a.version, &b.version));
    newest.with_context(|| format!("{SUITE} has no {NAME}"))
}
