//! The machine's own Debian mirror, also for suites that apt itself is not configured for.
//!
//! The chain of trust is Debian's: keyring → `InRelease` (gpgv) → `Packages.xz` (SHA-256) → `.deb` (SHA-256).
//! `apt-helper` does the transfers, so proxies and credentials configured for apt apply.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::index::{self, Package};
use crate::paths::Cache;
use crate::{process, ui};

const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const INDEX: &str = "main/binary-amd64/Packages.xz";

/// A Debian archive, without a trailing slash.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    uri: String,
}

impl Mirror {
    /// `$ENFORCER_DEBIAN_MIRROR`, else the archive in apt's own configuration.
    pub(crate) fn discover() -> Result<Self> {
        if let Some(uri) = std::env::var("ENFORCER_DEBIAN_MIRROR").ok().filter(|uri| !uri.is_empty()) {
            return Ok(Self { uri: uri.trim_end_matches('/').to_owned() });
        }
        let targets = process::text(process::command("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ]))
        .context("asking apt for its mirrors")?;
        let uri = main_archive(&targets).context(
            "apt is not configured for a Debian archive (no source whose address ends in /debian): \
             set ENFORCER_DEBIAN_MIRROR to one",
        )?;
        // Cloud images list their mirrors in a file of their own.
        let uri = match uri.strip_prefix("mirror+file:") {
            Some(list) => {
                let mirrors = fs::read_to_string(list).with_context(|| format!("reading {list}"))?;
                let first = mirrors.split_whitespace().next().map(str::to_owned);
                first.with_context(|| format!("{list} names no mirror"))?
            }
            None => uri.to_owned(),
        };
        Ok(Self { uri: uri.trim_end_matches('/').to_owned() })
    }

    /// The archive's address, for tools that take one.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The packages of a suite's signed index whose name `wanted` accepts.
    pub(crate) fn packages(
        &self,
        cache: &Cache,
        suite: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Package>> {
        let index = self.index(cache, suite).with_context(|| format!("reading the index of {suite}"))?;
        Ok(index::packages(&index, wanted))
    }

    /// Fetches a package by its checksum into the cache.
    pub(crate) fn fetch(&self, cache: &Cache, package: &Package) -> Result<PathBuf> {
        cache.get_or_make(&format!("debs/{}.deb", package.sha256), |file| {
            let step = ui::step(format!("fetching {} {}", package.name, package.version));
            download(&format!("{}/{}", self.uri, package.path), file, Some(&package.sha256))
                .with_context(|| format!("fetching {} {}", package.name, package.version))?;
            step.done();
            Ok(())
        })
    }

    fn index(&self, cache: &Cache, suite: &str) -> Result<String> {
        let scratch = tempfile::tempdir().context("creating a temporary directory")?;
        let step = ui::step(format!("reading the package index of {suite}"));
        let release = self.signed_release(suite, scratch.path())?;
        let sha256 = index::release_sha256(&release, INDEX)
            .with_context(|| format!("the Release file of {suite} does not list {INDEX}"))?;
        let packed = cache.get_or_make(&format!("indexes/{sha256}.xz"), |file| {
            let base = format!("{}/dists/{suite}/main/binary-amd64", self.uri);
            // By hash first: the plain name changes under our feet whenever the archive is updated.
            download(&format!("{base}/by-hash/SHA256/{sha256}"), file, Some(sha256))
                .or_else(|_| download(&format!("{base}/Packages.xz"), file, Some(sha256)))
        })?;
        let index = process::text(process::command("xz").args(["--decompress", "--stdout"]).arg(packed))?;
        step.done();
        Ok(index)
    }

    /// The text that gpgv found signed: what follows or precedes the signed part must not be believed.
    ///
    /// `Valid-Until` is not looked at: an old mirror costs old kernels, and kernels are pinned anyway.
    fn signed_release(&self, suite: &str, scratch: &Path) -> Result<String> {
        let (signed, text) = (scratch.join("InRelease"), scratch.join("Release"));
        download(&format!("{}/dists/{suite}/InRelease", self.uri), &signed, None)?;
        process::output(
            process::command("gpgv").args(["--keyring", KEYRING, "--output"]).arg(&text).arg(&signed),
        )
        .with_context(|| {
            format!(
                "{suite}: the archive's signature does not verify (is debian-archive-keyring up to date?)"
            )
        })?;
        fs::read_to_string(&text).context("reading the verified Release file")
    }
}

/// Picks the archive for packages, not the one for security updates, which has no other suites.
fn main_archive(targets: &str) -> Option<&str> {
    targets.lines().map(str::trim).find(|uri| {
        uri.trim_end_matches('/').ends_with("/debian")
            || uri.starts_with("mirror+file:") && !uri.contains("security")
    })
}

fn download(uri: &str, file: &Path, sha256: Option<&str>) -> Result<()> {
    if !Path::new(APT_HELPER).exists() {
        bail!("{APT_HELPER} does not exist: this needs a Debian machine");
    }
    let mut command = process::command(APT_HELPER);
    // The sandbox user cannot write into a private cache directory.
    command
        .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download-file", uri])
        .arg(file);
    if let Some(sha256) = sha256 {
        command.arg(format!("SHA256:{sha256}"));
    }
    process::output(&mut command)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_and_foreign_archives_are_not_the_mirror() {
        let targets =
            "http://mirror.test/debian-security/\nhttps://vendor.test/apt/\nhttp://mirror.test/debian/\n";
        assert_eq!(main_archive(targets), Some("http://mirror.test/debian/"));
        let cloud =
            "mirror+file:/etc/apt/mirrors/debian-security.list\nmirror+file:/etc/apt/mirrors/debian.list\n";
        assert_eq!(main_archive(cloud), Some("mirror+file:/etc/apt/mirrors/debian.list"));
        assert_eq!(main_archive("https://vendor.test/apt\n"), None);
    }
}
