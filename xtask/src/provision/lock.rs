//! `xtask/kernels.lock`: exactly which kernels (and which busybox) the tests run on, and which tools measure them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::debian::{Package, version};
use crate::paths;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    /// The initramfs user space.
    pub(crate) busybox: Package,
    /// The test matrix, oldest first.
    #[serde(rename = "kernel")]
    pub(crate) kernels: Vec<LockedKernel>,
    /// Programs that only `cargo xtask bench` and `cargo xtask lint` run.
    #[serde(rename = "tool")]
    pub(crate) tools: Vec<LockedTool>,
}

/// A program that is unpacked from its packages and not installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedTool {
    /// One of [`super::tool::TOOLS`].
    pub(crate) name: String,
    /// The packages that together hold it.
    #[serde(rename = "package")]
    pub(crate) packages: Vec<Package>,
}

/// One kernel of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedKernel {
    /// What `setup --update-kernels` looks for: a version prefix.
    pub(crate) series: String,
    /// The Debian suite that has it.
    pub(crate) suite: String,
    /// `uname -r`.
    pub(crate) release: String,
    /// The packages that together hold image and modules.
    #[serde(rename = "package")]
    pub(crate) packages: Vec<Package>,
}

impl LockedKernel {
    /// The kernel's version as its authors number it, such as `6.12.107`.
    pub(crate) fn version(&self) -> &str {
        self.packages.first().map_or(self.release.as_str(), |package| version::upstream(&package.version))
    }

    /// Major and minor number, the name used in commands and tables.
    pub(crate) fn name(&self) -> String {
        self.version().splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
    }

    /// Whether someone who asks for `wanted` means this kernel: `6.12`, `6.12.107`, `7`, or the full release.
    pub(crate) fn answers_to(&self, wanted: &str) -> bool {
        self.release == wanted || is_prefix(wanted, self.version())
    }
}

/// Whether `prefix` is `version` cut at a dot: `6.1` is one of `6.1.176` but not of `6.12.1`.
pub(crate) fn is_prefix(prefix: &str, version: &str) -> bool {
    version.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Lock {
    /// Reads the lock file of this tree.
    pub(crate) fn read() -> Result<Self> {
        let file = Self::file();
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("parsing {}", file.display()))
    }

    /// Writes the lock file of this tree.
    pub(crate) fn write(&self) -> Result<()> {
        let file = Self::file();
        let body = toml::to_string_pretty(self).context("formatting the lock")?;
        let text =
            format!("# Written by `cargo xtask setup --update-kernels`. Oldest kernel first.\n\n{body}");
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// The kernels meant by these names, or all when there are none.
    pub(crate) fn select(&self, wanted: &[String]) -> Result<Vec<&LockedKernel>> {
        if wanted.is_empty() {
            return Ok(self.kernels.iter().collect());
        }
        wanted.iter().map(|name| self.one(name)).collect()
    }

    /// The packages of a tool.
    pub(crate) fn tool(&self, name: &str) -> Result<&LockedTool> {
        let tool = self.tools.iter().find(|tool| tool.name == name);
        tool.with_context(|| {
            format!("xtask/kernels.lock has no tool {name}: cargo xtask setup --update-kernels")
        })
    }

    /// The kernel meant by this name.
    pub(crate) fn one(&self, name: &str) -> Result<&LockedKernel> {
        match self.kernels.iter().find(|kernel| kernel.answers_to(name)) {
            Some(kernel) => Ok(kernel),
            None => {
                let known: Vec<_> = self.kernels.iter().map(LockedKernel::version).collect();
                bail!("no kernel {name} in the matrix; there are {}", known.join(", "))
            }
        }
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    fn file() -> PathBuf {
        paths::workspace().join("xtask/kernels.lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(version: &str) -> LockedKernel {
        let package = Package {
            name: "linux-image".into(),
            version: format!("{version}-1"),
            path: "pool/x.deb".into(),
            sha256: "00".into(),
        };
        let release = format!("{version}+deb-cloud-amd64");
        LockedKernel { series: "6".into(), suite: "s".into(), release, packages: vec![package] }
    }

    #[test]
    fn names_select_kernels() {
        let busybox = kernel("1").packages.remove(0);
        let kernels = vec![kernel("6.1.176"), kernel("6.12.107"), kernel("7.3.4")];
        let lock = Lock { busybox, kernels, tools: Vec::new() };
        let cases = [
            ("6.1", Some("6.1.176")),
            ("6.12", Some("6.12.107")),
            ("6.12.107", Some("6.12.107")),
            ("6.12.107+deb-cloud-amd64", Some("6.12.107")),
            ("7", Some("7.3.4")),
            ("6.12.10", None),
            ("5", None),
            ("", None),
        ];
        for (wanted, expected) in cases {
            assert_eq!(lock.one(wanted).ok().map(LockedKernel::version), expected, "{wanted:?}");
        }
        assert_eq!(lock.select(&[]).unwrap().len(), 3);
        assert_eq!(lock.kernels[1].name(), "6.12");
    }

    #[test]
    fn a_lock_survives_its_file_format() {
        let busybox = kernel("1").packages.remove(0);
        let tools = vec![LockedTool { name: "t".into(), packages: vec![busybox.clone()] }];
        let lock = Lock { busybox, kernels: vec![kernel("6.1.176")], tools };
        assert_eq!(Lock::parse(&toml::to_string_pretty(&lock).unwrap()).unwrap(), lock);
        assert!(Lock::parse("kernel = []\nsurprise = 1").is_err());
    }

    #[test]
    fn the_committed_lock_is_readable() {
        let lock = Lock::read().unwrap();
        assert!(!lock.kernels.is_empty());
        assert!(lock.kernels.iter().all(|kernel| is_prefix(&kernel.series, kernel.version())));
    }
}
