//! Where maps and links are pinned, and what of it is there.
//!
//! ```text
//! /sys/fs/bpf/enforcer/v1/maps/CONTROL …
//! /sys/fs/bpf/enforcer/v1/links/<object digest>-<id of CONTROL>/file_open …
//! ```
//!
//! A directory of links carries the digest of the object its programs came from and the id of the map they read, so
//! whether it can be adopted shows in its name. A name that starts with `new-` is a set that was being put up; bpffs
//! allows no dots in names.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, PinnedLink};
use enforcer_common::{abi::ABI_VERSION, hook::Hook, maps};

use super::maps::info;

/// Where a BPF file system is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// The tree of pins of this ABI version.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// A problem with the tree.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct PinError {
    /// What was tried.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// How much of a set is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    None,
    /// Some.
    Partial,
    /// All.
    Complete,
}

impl Presence {
    fn of(present: usize, all: usize) -> Self {
        match present {
            0 => Self::None,
            _ if present < all => Self::Partial,
            _ => Self::Complete,
        }
    }
}

impl Default for Pins {
    fn default() -> Self {
        Self { root: Path::new(BPFFS).join("enforcer").join(format!("v{ABI_VERSION}")) }
    }
}

impl Pins {
    /// A tree somewhere else.
    #[cfg(test)]
    pub(crate) const fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory of everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of the maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Where one map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Directory of the sets of links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn create(&self) -> Result<(), PinError> {
        for directory in [self.maps(), self.links()] {
            fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        }
        Ok(())
    }

    /// How many of the maps are there.
    #[must_use]
    pub fn maps_presence(&self) -> Presence {
        let present = maps::PINNED.iter().filter(|name| self.map(name).exists()).count();
        Presence::of(present, maps::PINNED.len())
    }

    /// Forgets all maps. Programs that are attached go on with theirs.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn remove_maps(&self) -> Result<(), PinError> {
        remove_flat(&self.maps())
    }

    /// The id of the map that programs must read to belong to the pinned maps.
    #[must_use]
    pub fn control_id(&self) -> Option<u32> {
        info(&self.map(maps::CONTROL)).ok().map(|info| info.id())
    }

    /// The sets of links that are there, half-made ones included.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn link_sets(&self) -> Result<Vec<LinkSet>, PinError> {
        let directory = self.links();
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &directory)(error)),
        };
        entries
            .map(|entry| {
                entry.map(|entry| LinkSet { path: entry.path() }).map_err(failed("read", &directory))
            })
            .collect()
    }

    /// The set of links of an object over the pinned maps, whether it is there or not.
    #[must_use]
    pub fn link_set(&self, digest: &str, control_id: u32) -> LinkSet {
        LinkSet { path: self.links().join(format!("{digest}-{control_id}")) }
    }

    /// A place to put up a new set.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn stage(&self, digest: &str) -> Result<LinkSet, PinError> {
        let path = self.links().join(format!("new-{digest}-{}", std::process::id()));
        let set = LinkSet { path };
        set.remove()?;
        fs::create_dir(&set.path).map_err(failed("create", &set.path))?;
        Ok(set)
    }

    /// Removes everything, links first.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn remove_all(&self) -> Result<(), PinError> {
        for set in self.link_sets()? {
            set.remove()?;
        }
        self.remove_maps()?;
        let directories = [self.links(), self.maps(), self.root.clone()];
        let parent = self.root.parent().map(Path::to_owned);
        for directory in directories {
            remove_directory(&directory)?;
        }
        // Pins of other ABI versions may live beside.
        if let Some(parent) = parent {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}

/// A directory of pinned links, one for each hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSet {
    path: PathBuf,
}

impl LinkSet {
    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Whether it was still being put up.
    #[must_use]
    pub fn is_staged(&self) -> bool {
        self.name().starts_with("new-")
    }

    /// Pins a link.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn pin(&self, hook: Hook, link: FdLink) -> Result<(), PinError> {
        let path = self.path.join(hook.name());
        let pinned = link.pin(&path).map_err(|error| failed("pin", &path)(io::Error::other(error)))?;
        drop(pinned);
        Ok(())
    }

    /// The hooks whose link is there and attached.
    #[must_use]
    pub fn attached(&self) -> Vec<Hook> {
        Hook::ALL.iter().copied().filter(|hook| self.is_attached(*hook)).collect()
    }

    fn is_attached(&self, hook: Hook) -> bool {
        PinnedLink::from_pin(self.path.join(hook.name())).is_ok_and(|link| FdLink::from(link).info().is_ok())
    }

    /// How many of the expected links are there.
    #[must_use]
    pub fn presence(&self, expected: &[Hook]) -> Presence {
        let present = expected.iter().filter(|hook| self.is_attached(**hook)).count();
        Presence::of(present, expected.len())
    }

    /// Gives a finished set its name.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn promote(self, name: &Self) -> Result<(), PinError> {
        fs::rename(&self.path, &name.path).map_err(failed("rename", &self.path))
    }

    /// Detaches its programs, unless they are pinned elsewhere, too.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn remove(&self) -> Result<(), PinError> {
        // Last attached, first removed: a program never waits for one that is gone already.
        for hook in Hook::in_attach_order().rev() {
            let path = self.path.join(hook.name());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        remove_flat(&self.path)?;
        remove_directory(&self.path)
    }
}

fn remove_flat(directory: &Path) -> Result<(), PinError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", directory)(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed("read", directory))?.path();
        fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    Ok(())
}

fn remove_directory(directory: &Path) -> Result<(), PinError> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", directory)(error)),
        _ => Ok(()),
    }
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> PinError {
    let path = path.to_owned();
    move |source| PinError { what, path: path.clone(), source }
}
