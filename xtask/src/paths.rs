//! Where things are: the tree, its build directory, and the cache outside the tree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The root of this repository.
pub(crate) fn workspace() -> &'static Path {
    // Compile-time: `cargo xtask` rebuilds xtask when the tree has moved.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Cargo's build directory.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    }
}

/// Console logs and artifacts of VM runs, kept for the reader of a failure.
pub(crate) fn vm_logs() -> PathBuf {
    target().join("vm").join("logs")
}

/// Things that are slow to get and never change once made: each is stored under a name that contains its hash.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$ENFORCER_CACHE`, else `enforcer` in the user's cache directory.
    pub(crate) fn open() -> Result<Self> {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = from("ENFORCER_CACHE")
            .or_else(|| from("XDG_CACHE_HOME").map(|directory| directory.join("enforcer")))
            .or_else(|| from("HOME").map(|home| home.join(".cache/enforcer")))
            .context("neither ENFORCER_CACHE nor HOME is set: nowhere to keep downloads")?;
        fs::create_dir_all(&root).with_context(|| format!("creating the cache {}", root.display()))?;
        Ok(Self { root })
    }

    /// Where an entry is or would be.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The entry's path; when it does not exist yet, `make` creates it (file or directory) at a temporary path.
    ///
    /// A lock serialises makers, also those of other checkouts, and the final rename makes half-made entries
    /// impossible.
    pub(crate) fn get_or_make(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let entry = self.path(name);
        if entry.exists() {
            return Ok(entry);
        }
        let parent = entry.parent().context("a cache entry has a parent")?;
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        let _lock = self.lock(name)?;
        if entry.exists() {
            return Ok(entry);
        }
        let scratch = tempfile::Builder::new().prefix(".making-").tempdir_in(parent);
        let scratch = scratch.with_context(|| format!("creating a directory in {}", parent.display()))?;
        let made = scratch.path().join("entry");
        make(&made)?;
        fs::rename(&made, &entry).with_context(|| format!("storing {}", entry.display()))?;
        Ok(entry)
    }

    fn lock(&self, name: &str) -> Result<File> {
        let directory = self.root.join("locks");
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let path = directory.join(name.replace('/', "-"));
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        file.lock().with_context(|| format!("locking {}", path.display()))?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_made_once_and_never_half() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache { root: directory.path().to_owned() };
        let failed = cache.get_or_make("kind/a", |path| {
            fs::write(path, "half")?;
            anyhow::bail!("broken")
        });
        assert!(failed.is_err());
        assert!(!cache.path("kind/a").exists());
        let made = cache.get_or_make("kind/a", |path| Ok(fs::write(path, "whole")?)).unwrap();
        assert_eq!(fs::read_to_string(&made).unwrap(), "whole");
        cache.get_or_make("kind/a", |_| anyhow::bail!("made again")).unwrap();
    }
}
