//! The standard library's source, which `-Z build-std=core` compiles for BPF. It must match rustc exactly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::debian::{Mirror, Package, version};
use crate::paths::{self, Cache};
use crate::{process, ui};

/// Debian backports carry a package per recent Rust release.
const SUITE: &str = "trixie-backports";
const NAME: &str = "rust-src";

/// Installs `rust-src` into rustc's sysroot unless it is there.
pub(crate) fn ensure(cache: &Cache) -> Result<()> {
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
    let library = sysroot.join("lib/rustlib/src/rust/library");
    if present(&library) {
        return Ok(());
    }
    let step = ui::step("installing rust-src");
    // rustup may also succeed without doing anything: where its records say that the component is there, but a
    // machine image was made without it.
    let rustup = with_rustup();
    if !present(&library) {
        let reason = rustup.map_or_else(|error| format!("{error:#}"), |()| "it installed nothing".to_owned());
        ui::note(&format!("rustup could not install rust-src, so Debian's package is used ({reason})"));
        from_debian(cache, &library)?;
    }
    ensure!(present(&library), "{} is still missing", library.display());
    step.done();
    Ok(())
}

fn present(library: &Path) -> bool {
    library.join("core/src/lib.rs").exists()
}

fn with_rustup() -> Result<()> {
    let mut rustup = process::command("rustup");
    // Without limits, an unreachable server is waited for through many retries.
    rustup
        .args(["component", "add", "rust-src"])
        .env("RUSTUP_MAX_RETRIES", "1")
        .current_dir(paths::workspace());
    process::output(&mut rustup)?;
    Ok(())
}

/// Copies `library/` out of the Debian package of the same release. Nothing else of it belongs in a sysroot.
fn from_debian(cache: &Cache, library: &Path) -> Result<()> {
    let release = rustc(&["--version"])?;
    let release = release.split_whitespace().nth(1).context("reading rustc's version")?;
    let mirror = Mirror::discover()?;
    let package = matching(mirror.packages(cache, SUITE, |name| name == NAME)?, release)?;
    let deb = mirror.fetch(cache, &package)?;

    let parent = library.parent().context("the library directory has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    // Beside its destination, so that the final rename is atomic.
    let root = tempfile::tempdir_in(parent).context("creating a temporary directory")?;
    process::output(process::command("dpkg-deb").arg("--extract").arg(deb).arg(root.path()))?;
    let sources = root.path().join("usr/src");
    let unpacked = fs::read_dir(&sources).with_context(|| format!("listing {}", sources.display()))?;
    for entry in unpacked {
        let candidate = entry?.path().join("library");
        if present(&candidate) {
            return fs::rename(&candidate, library)
                .with_context(|| format!("installing {}", library.display()));
        }
    }
    bail!("{NAME} {} holds no library directory", package.version)
}

/// The package of exactly this Rust release: `1.95.0` is in `1.95.0+dfsg1-2~bpo13+1`.
fn matching(packages: Vec<Package>, release: &str) -> Result<Package> {
    let same = |package: &Package| version::upstream(&package.version).split('+').next() == Some(release);
    let newest = packages.into_iter().filter(same).max_by(|a, b| version::compare(&a.version, &b.version));
    newest.with_context(|| format!("{SUITE} has no {NAME} for Rust {release}"))
}

fn rustc(arguments: &[&str]) -> Result<String> {
    // In the workspace, so that rust-toolchain.toml chooses the compiler.
    process::text(Command::new("rustc").args(arguments).current_dir(paths::workspace()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_release_matches() {
        let package = |version: &str| Package {
            name: NAME.into(),
            version: version.into(),
            path: String::new(),
            sha256: String::new(),
        };
        let offered = || {
            vec![
                package("1.95.0+dfsg1-1~bpo13+1"),
                package("1.95.0+dfsg1-2~bpo13+1"),
                package("1.96.1+dfsg1-2"),
            ]
        };
        assert_eq!(matching(offered(), "1.95.0").unwrap().version, "1.95.0+dfsg1-2~bpo13+1");
        assert!(matching(offered(), "1.95.1").is_err());
    }
}
