//! Tells the programs what is the enforcer's own, so that no workload gets at it, whatever its policy says.
//!
//! The list names inodes and BPF ids, which change: directories are made anew after a boot, programs are replaced by an
//! upgrade. So every daemon lists what is there when it starts. What it adds it adds before it takes away what is gone,
//! and nothing that is still there is ever off the list.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, PinnedLink};
use enforcer_common::{
    abi::{Keeper, OwnKey, OwnKind, own},
    maps,
};

use super::{
    maps::{MapFault, OpenError, OwnMaps, info},
    pin::{PinError, Pins},
};
use crate::cgroups::{self, Hierarchy, Mount, mounts};

/// Where configuration lies that people trust: anchors and policies.
pub const CONFIGURATION: &str = "/etc/enforcer";

/// What cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The maps.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An entry.
    #[error(transparent)]
    Map(#[from] MapFault),
    /// The pins.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// A place.
    #[error("cannot tell the kernel what {} is: {source}", path.display())]
    Place {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pinned object.
    #[error("cannot tell the id of {}: {why}", path.display())]
    Object {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// A file or directory that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where.
    path: PathBuf,
    /// Bits of [`own`].
    bits: u32,
}

impl Place {
    /// One that no workload opens.
    #[must_use]
    pub fn secret(path: PathBuf) -> Self {
        Self { path, bits: own::WHOLE }
    }

    /// One that no workload opens, and while sealed nobody but those who run the daemon's program: locks lie there.
    #[must_use]
    pub fn closed(path: PathBuf) -> Self {
        Self { path, bits: own::WHOLE | own::CLOSED }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file that the daemon has mapped as code.
    pub(super) const fn code(path: PathBuf, bits: u32) -> Self {
        Self { path, bits }
    }

    /// One inside of one that no workload opens, whose files the host changes even while sealed: they are signed.
    #[must_use]
    pub fn offered(path: PathBuf) -> Self {
        Self { path, bits: own::OFFERED }
    }

    /// One that no workload changes; who reads it is for policies to say.
    #[must_use]
    pub fn record(path: PathBuf) -> Self {
        Self { path, bits: own::RECORD }
    }
}

/// Makes what is ours out of reach of workloads: the given directories and files where they exist, the pins, what is
/// pinned there, and this process with its cgroup. While sealed nothing is taken off the list, and the kernel knows by itself
/// who the daemon is. The caller holds the installers' lock.
///
/// # Errors
/// [`OwnError`]. What was out of reach before still is.
pub fn protect(pins: &Pins, places: &[Place]) -> Result<(), OwnError> {
    let mut own = OwnMaps::open(&pins.maps())?;
    let mounts = mounts().map_err(failed(Path::new(MOUNTS)))?;
    let mut list = Entries::new();
    let pinned = [pins.root().to_owned(), pins.maps(), pins.links()].map(Place::secret);
    for place in places.iter().chain(&pinned) {
        list_place(&mut list, place, &mounts)?;
    }
    list_objects(&mut list, pins)?;
    list_cgroups(&mut list, &mounts);
    if own.keeper()?.is_sealed() {
        own.add(&list)?;
    } else {
        own.replace(&list)?;
        own.set_keeper(&this_process()?)?;
    }
    Ok(())
}

pub(super) const MOUNTS: &str = "/proc/self/mountinfo";

pub(super) type Entries = BTreeMap<OwnKey, u32>;

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> OwnError {
    let path = path.to_owned();
    move |source| OwnError::Place { path: path.clone(), source }
}

/// A place, and the directories that lead to it. One that is not there is nobody's.
pub(super) fn list_place(list: &mut Entries, place: &Place, mounts: &[Mount]) -> Result<(), OwnError> {
    let path = match fs::canonicalize(&place.path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&place.path)(error)),
    };
    *list.entry(inode(&path, mounts)?).or_default() |= place.bits;
    // But for the root, which cannot be moved.
    let ancestors = path.ancestors().skip(1).filter(|ancestor| ancestor.parent().is_some());
    for ancestor in ancestors {
        *list.entry(inode(ancestor, mounts)?).or_default() |= own::WAY;
    }
    Ok(())
}

/// Names an inode as the kernel does. `stat(2)` may tell another device (btrfs has one for each subvolume), so the mount
/// is asked.
pub(super) fn inode(path: &Path, mounts: &[Mount]) -> Result<OwnKey, OwnError> {
    let metadata = fs::symlink_metadata(path).map_err(failed(path))?;
    let mount = mount_of(path, mounts).ok_or_else(|| failed(path)(io::ErrorKind::NotFound.into()))?;
    Ok(OwnKey { kind: OwnKind::Inode.code(), device: mount.device, number: metadata.ino() })
}

/// The mount that a path is on.
pub(super) fn mount_of<'m>(path: &Path, mounts: &'m [Mount]) -> Option<&'m Mount> {
    let mounts = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    // Of mounts on one another the last counts, which of equals is what this finds.
    mounts.max_by_key(|mount| mount.point.components().count())
}

fn list_objects(list: &mut Entries, pins: &Pins) -> Result<(), OwnError> {
    let mut add = |kind: OwnKind, id: u32, bits: u32| {
        list.insert(OwnKey { kind: kind.code(), device: 0, number: id.into() }, bits);
    };
    for path in entries_of(&pins.maps())? {
        let info = info(&path).map_err(|error| unknown(&path, &error))?;
        let bits = if path == pins.map(maps::KEEPER) { own::WHOLE | own::DOOR } else { own::WHOLE };
        add(OwnKind::Map, info.id(), bits);
    }
    for set in pins.link_sets()? {
        for path in entries_of(set.path())? {
            let link = PinnedLink::from_pin(&path).map(FdLink::from).and_then(|link| link.info());
            let info = link.map_err(|error| unknown(&path, &error))?;
            add(OwnKind::Link, info.id(), own::WHOLE);
            add(OwnKind::Program, info.program_id(), own::WHOLE);
        }
    }
    Ok(())
}

fn unknown(path: &Path, error: &dyn std::error::Error) -> OwnError {
    OwnError::Object { path: path.to_owned(), why: super::chain(error) }
}

fn entries_of(directory: &Path) -> Result<Vec<PathBuf>, OwnError> {
    let entries = fs::read_dir(directory).map_err(failed(directory))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed(directory))).collect()
}

/// The cgroups that this process is in, whose files could freeze, starve or end it. The root has no such files. Where
/// they cannot be told, they are not protected: a daemon can do its work without.
fn list_cgroups(list: &mut Entries, mounts: &[Mount]) {
    let Ok(hierarchy) = Hierarchy::find() else { return };
    let Some(path) = cgroups::of_process(std::process::id()) else { return };
    let directory = hierarchy.directory(&path);
    for at in
        directory.ancestors().take_while(|at| at.starts_with(hierarchy.root()) && *at != hierarchy.root())
    {
        if let Ok(key) = inode(at, mounts) {
            let bits = if at == directory { own::CONTROLS | own::HOME } else { own::CONTROLS };
            *list.entry(key).or_default() |= bits;
        }
    }
}

fn this_process() -> Result<Keeper, OwnError> {
    const STAT: &str = "/proc/self/stat";
    let stat = fs::read_to_string(STAT).map_err(failed(Path::new(STAT)))?;
    let started = started(&stat)
        .ok_or_else(|| failed(Path::new(STAT))(io::Error::other("there is no start time in it")))?;
    Ok(Keeper { process: std::process::id(), started, ..Keeper::default() })
}

/// When the process of this line started. The second field is a name, and may hold anything.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &str, device: u32) -> Mount {
        Mount { point: point.into(), device, id: device, group: 0, kind: "ext4".to_owned() }
    }

    #[test]
    fn a_place_is_listed_with_the_way_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/state")).unwrap();
        std::os::unix::fs::symlink(root.join("a/state"), root.join("link")).unwrap();
        let point = root.join("a");
        let mounts = [mount("/", 1), mount(point.to_str().unwrap(), 2), mount("/elsewhere", 3)];
        let mut list = Entries::new();
        list_place(&mut list, &Place::secret(root.join("link")), &mounts).unwrap();
        let key = |path: &Path, device| OwnKey {
            kind: OwnKind::Inode.code(),
            device,
            number: fs::metadata(path).unwrap().ino(),
        };
        assert_eq!(list.get(&key(&root.join("a/state"), 2)), Some(&own::WHOLE));
        assert_eq!(list.get(&key(&point, 2)), Some(&own::WAY));
        assert_eq!(list.get(&key(&root, 1)), Some(&own::WAY));
        assert_eq!(list.get(&key(Path::new("/"), 1)), None);
        let others = list.values().filter(|bits| **bits & own::WHOLE != 0).count();
        assert_eq!(others, 1, "{list:?}");
        let before = list.clone();
        list_place(&mut list, &Place::secret(root.join("not-there")), &mounts).unwrap();
        assert_eq!(list, before);
        list_place(&mut list, &Place::record(root.join("a")), &mounts).unwrap();
        assert_eq!(list.get(&key(&point, 2)), Some(&(own::WAY | own::RECORD)));
    }

    #[test]
    fn of_mounts_on_one_another_the_last_counts() {
        let mounts = [mount("/", 1), mount("/tmp", 2), mount("/tmp", 3)];
        assert_eq!(inode(Path::new("/tmp"), &mounts).unwrap().device, 3);
        assert_eq!(inode(Path::new("/"), &mounts).unwrap().device, 1);
    }

    #[test]
    fn when_a_process_started() {
        let stat = "77 (a) b) c) S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4321 1 2 3";
        assert_eq!(started(stat), Some(4321));
        assert_eq!(started("77 (a) S 1"), None);
        assert!(this_process().unwrap().started > 0);
    }
}
