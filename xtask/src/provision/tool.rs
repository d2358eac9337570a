//! Programs that are unpacked into the cache instead of installed: other versions than the machine has, or ones that
//! would change how it runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::lock::{Lock, LockedTool};
use crate::debian::{Mirror, version};
use crate::paths::Cache;
use crate::process;

/// One such program.
pub(crate) struct Tool {
    name: &'static str,
    suite: &'static str,
    packages: &'static [&'static str],
    /// The program itself, below the directory that the packages are unpacked into.
    program: &'static str,
}

/// Counts guest instructions. Debian 12's own 7.2 crashes guests in this mode (`cmpxchg16b`). Its libraries are those
/// of the installed one.
pub(crate) const QEMU: Tool = Tool {
    name: "qemu",
    suite: "bookworm-backports",
    packages: &["qemu-system-x86", "qemu-system-data", "seabios"],
    program: "usr/bin/qemu-system-x86_64",
};

/// Compiles the profiles that the enforcer is compared with, in the guest. Installed, it would turn AppArmor on here.
pub(crate) const APPARMOR: Tool =
    Tool { name: "apparmor", suite: "bookworm", packages: &["apparmor"], program: "sbin/apparmor_parser" };

/// Renders the kustomize base.
pub(crate) const KUBECTL: Tool =
    Tool { name: "kubectl", suite: "trixie", packages: &["kubectl"], program: "usr/bin/kubectl" };

/// All of them.
pub(crate) const TOOLS: &[&Tool] = &[&QEMU, &APPARMOR, &KUBECTL];

/// An unpacked tool. Holding one means that the program finds its libraries.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    /// The root that its packages were unpacked into.
    pub(crate) root: PathBuf,
    /// The program.
    pub(crate) program: PathBuf,
}

impl Tool {
    /// Unpacks the pinned packages unless the cache has them.
    pub(crate) fn ensure(&self, cache: &Cache, lock: &Lock) -> Result<Unpacked> {
        let locked = lock.tool(self.name)?;
        let root = cache.get_or_make(&entry_name(locked), |directory| {
            let mirror = Mirror::discover()?;
            for package in &locked.packages {
                let deb = mirror.fetch(cache, package).with_context(|| {
                    format!(
                        "the pinned {} {} cannot be had; `cargo xtask setup --update-kernels` pins what {} has now",
                        package.name, package.version, self.suite
                    )
                })?;
                process::output(process::command("dpkg-deb").arg("--extract").arg(deb).arg(directory))?;
            }
            runs(&directory.join(self.program))
        })?;
        let program = root.join(self.program);
        Ok(Unpacked { root, program })
    }

    /// What the suite's signed index offers now.
    pub(crate) fn newest(&self, cache: &Cache, mirror: &Mirror) -> Result<LockedTool> {
        let offered = mirror.packages(cache, self.suite, |name| self.packages.contains(&name))?;
        let newest = |name: &&str| {
            let same = offered.iter().filter(|package| package.name == *name);
            let newest = same.max_by(|a, b| version::compare(&a.version, &b.version)).cloned();
            newest.with_context(|| format!("{} has no {name}", self.suite))
        };
        let packages = self.packages.iter().map(newest).collect::<Result<_>>()?;
        Ok(LockedTool { name: self.name.to_owned(), packages })
    }
}

/// Changes whenever any of the packages does.
fn entry_name(locked: &LockedTool) -> String {
    let hashes: Vec<&str> = locked.packages.iter().filter_map(|package| package.sha256.get(..12)).collect();
    format!("tools/{}-{}", locked.name, hashes.join("-"))
}

/// The libraries are the machine's own: it must be one that the packages were made for.
fn runs(program: &Path) -> Result<()> {
    let libraries = process::text(process::command("ldd").arg(program))?;
    let missing: Vec<&str> = libraries.lines().filter(|line| line.contains("not found")).collect();
    ensure!(
        missing.is_empty(),
        "{} was built for Debian 12 and lacks libraries here: {}; use Debian 12 with qemu-system-x86 installed",
        program.display(),
        missing.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_pinned_with_all_of_its_packages() {
        let lock = Lock::read().unwrap();
        for tool in TOOLS {
            let names: Vec<String> =
                lock.tool(tool.name).unwrap().packages.iter().map(|package| package.name.clone()).collect();
            assert_eq!(names, tool.packages, "{}", tool.name);
        }
        assert!(lock.tool("nonsense").is_err());
    }
}
