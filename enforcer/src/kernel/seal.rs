//! The seal: nobody but the daemon changes what is the enforcer's own, the host's root included.
//!
//! The kernel knows the daemon by its process, and who may succeed it by code: the files that this process has mapped as code
//! are listed, and a process that has started the program among them, untraced and where the host's files are, and has mapped
//! nothing else, may take the dead daemon's place. So what is mapped at the time of sealing has to be all that a daemon ever
//! maps.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use enforcer_common::abi::{Keeper, OwnKey, OwnKind, own};

use super::{
    maps::{self, MapFault, OpenError, OwnMaps},
    own::{Entries, MOUNTS, OwnError, Place, failed, inode, list_place, mount_of},
    pin::Pins,
};
use crate::{
    cgroups::{Mount, mounts},
    sys,
};

/// Where the daemon looks for processes and for cgroups.
const PROC: &str = "/proc";
const CGROUPS: &str = "/sys/fs/cgroup";
/// File systems on which no two files have the same number at a time. Others (btrfs, overlayfs) have numbers for each of their
/// parts.
const NUMBERED: &[&str] =
    &["ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs", "ramfs", "rootfs", "squashfs", "erofs"];

/// What keeps a machine from being sealed, or from being unsealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// What is listed.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// The maps.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An entry.
    #[error(transparent)]
    Map(#[from] MapFault),
    /// The daemon is where a successor could be lied to.
    #[error("the daemon {0}; see \"Sealing\" in docs/install.md")]
    Confined(&'static str),
    /// The daemon has mapped what nobody could tell from something else.
    #[error("the daemon has mapped {what} as code: {why}")]
    Code {
        /// What.
        what: String,
        /// Why that does not do.
        why: &'static str,
    },
    /// Something about this process or the clock.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is noted of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Version of the bundle that says so.
    pub version: u64,
    /// SHA-256 of its statement.
    pub statement: [u8; 32],
    /// SHA-256 of the anchors.
    pub anchors: [u8; 32],
    /// SHA-256 of the daemon's settings.
    pub settings: [u8; 32],
}

/// Seals the machine. This process is the daemon, and has mapped what it ever will.
///
/// # Errors
/// [`SealError`]; then it is not sealed.
pub fn seal(pins: &Pins, places: &[Place], terms: &Terms) -> Result<(), SealError> {
    refuse_confinement()?;
    let mounts = mounts().map_err(failed(Path::new(MOUNTS)))?;
    let code = mapped_code(&mounts)?;
    let mut list = Entries::new();
    for place in &code {
        list_place(&mut list, place, &mounts)?;
    }
    let others = [pins.root(), Path::new(PROC), Path::new(CGROUPS)];
    let paths = places.iter().chain(&code).map(Place::path).chain(others);
    list_mounts(&mut list, paths.filter_map(|path| fs::canonicalize(path).ok()), &mounts);
    let mut own = OwnMaps::open(&pins.maps())?;
    own.add(&list)?;
    let clock = Path::new("the clock");
    let since = sys::boot_time().map_err(unreadable(clock))?;
    let keeper = Keeper {
        sealed: 1,
        // A boot that lasts longer than 584 years.
        since: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        version: terms.version,
        statement: terms.statement,
        anchors: terms.anchors,
        settings: terms.settings,
        ..own.keeper()?
    };
    Ok(own.set_keeper(&keeper)?)
}

/// Notes that another bundle is in force under the seal.
///
/// # Errors
/// [`SealError`].
pub fn note_version(pins: &Pins, version: u64) -> Result<(), SealError> {
    let mut own = OwnMaps::open(&pins.maps())?;
    let keeper = Keeper { version, ..own.keeper()? };
    Ok(own.set_keeper(&keeper)?)
}

/// Unseals the machine.
///
/// # Errors
/// [`SealError`]; then it is still sealed.
pub fn unseal(pins: &Pins) -> Result<(), SealError> {
    let mut own = OwnMaps::open(&pins.maps())?;
    let Keeper { process, started, credentials, .. } = own.keeper()?;
    Ok(own.set_keeper(&Keeper { process, started, credentials, ..Keeper::default() })?)
}

/// Whether the machine is sealed, for those who would not get far then. Where the kernel does not say, it is.
#[must_use]
pub fn is_sealed(pins: &Pins) -> bool {
    match maps::read_keeper(&pins.maps()) {
        Ok(keeper) => keeper.is_some_and(|keeper| keeper.is_sealed()),
        Err(_) => true,
    }
}

/// What a successor is checked for by the kernel, this process has to be as well.
fn refuse_confinement() -> Result<(), SealError> {
    let same = |name: &str| {
        let of = |process: &str| {
            let path = PathBuf::from(format!("/proc/{process}/{name}"));
            fs::metadata(&path).map(|it| (it.dev(), it.ino())).map_err(unreadable(&path))
        };
        Ok::<_, SealError>(of("self")? == of("1")?)
    };
    if !same("ns/mnt")? {
        return Err(SealError::Confined("has a mount namespace of its own"));
    }
    if !same("root")? {
        return Err(SealError::Confined("has a root directory of its own"));
    }
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).map_err(unreadable(path))?;
    let says = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    if says("Seccomp:") != Some("0") {
        return Err(SealError::Confined("runs under a filter of system calls (seccomp)"));
    }
    if says("TracerPid:") != Some("0") {
        return Err(SealError::Confined("is traced"));
    }
    Ok(())
}

/// The files that this process has mapped as code.
fn mapped_code(mounts: &[Mount]) -> Result<Vec<Place>, SealError> {
    let path = Path::new("/proc/self/maps");
    let text = fs::read_to_string(path).map_err(unreadable(path))?;
    let exe = Path::new("/proc/self/exe");
    let program = fs::read_link(exe).map_err(unreadable(exe))?;
    let mut places = Vec::new();
    for mapped in text.lines().filter_map(code) {
        let Mapped::File { path, key } = mapped else {
            return Err(SealError::Code { what: "memory".into(), why: "nobody can tell what is in it" });
        };
        let refuse = |why| Err(SealError::Code { what: path.display().to_string(), why });
        match mount_of(&path, mounts) {
            Some(mount) if NUMBERED.contains(&mount.kind.as_str()) => {}
            _ => return refuse("its file system gives one number to several files"),
        }
        match inode(&path, mounts) {
            Ok(found) if found == key => {}
            _ => return refuse("it was replaced since, so start the daemon anew"),
        }
        let bits = if path == program { own::CODE | own::PROGRAM } else { own::CODE };
        places.push(Place::code(path, bits));
    }
    Ok(places)
}

/// A line of `/proc/self/maps` about code.
#[derive(Debug, PartialEq, Eq)]
enum Mapped {
    File { path: PathBuf, key: OwnKey },
    Memory,
}

/// `None` for what is no code, or the kernel's.
fn code(line: &str) -> Option<Mapped> {
    /// `MINORBITS`.
    const MINOR_BITS: u32 = 20;
    let mut words = line.splitn(6, ' ');
    let (_, mode) = (words.next()?, words.next()?);
    let (_, device, number) = (words.next()?, words.next()?, words.next()?);
    let name = words.next().unwrap_or_default().trim_start();
    if !mode.contains('x') || ["[vdso]", "[vsyscall]"].contains(&name) {
        return None;
    }
    let parse = || {
        let (major, minor) = device.split_once(':')?;
        let device =
            u32::from_str_radix(major, 16).ok()? << MINOR_BITS | u32::from_str_radix(minor, 16).ok()?;
        let number = number.parse().ok()?;
        name.starts_with('/').then(|| Mapped::File {
            path: name.into(),
            key: OwnKey { kind: OwnKind::Inode.code(), device, number },
        })
    };
    Some(parse().unwrap_or(Mapped::Memory))
}

/// The mounts that these paths lead through, and the groups that they propagate to.
fn list_mounts(list: &mut Entries, paths: impl Iterator<Item = PathBuf>, mounts: &[Mount]) {
    let key = |kind: OwnKind, number: u32| OwnKey { kind: kind.code(), device: 0, number: number.into() };
    for path in paths {
        for mount in path.ancestors().filter_map(|at| mount_of(at, mounts)) {
            list.insert(key(OwnKind::Mount, mount.id), own::WHOLE);
            if mount.group != 0 {
                list.insert(key(OwnKind::Group, mount.group), own::WHOLE);
            }
        }
    }
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> SealError {
    let path = path.to_owned();
    move |source| SealError::Read { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_as_code() {
        let table = [
            ("7f00-7f01 r--p 00000000 fe:01 77 /usr/lib/libc.so.6", None),
            ("ffff-fff0 r-xp 00000000 00:00 0                  [vdso]", None),
            ("7f00-7f01 r-xp 00000000 00:00 0 ", Some(Mapped::Memory)),
            ("7f00-7f01 rwxp 00000000 00:00 0          [heap]", Some(Mapped::Memory)),
            (
                "7f00-7f01 r-xp 00026000 fe:01 77              /usr/lib/a b.so (deleted)",
                Some(Mapped::File {
                    path: "/usr/lib/a b.so (deleted)".into(),
                    key: OwnKey { kind: 0, device: 0xfe << 20 | 1, number: 77 },
                }),
            ),
            ("7f00-7f01 r-xp 00026000 fe:zz 77 /usr/lib/a", Some(Mapped::Memory)),
        ];
        for (line, expected) in table {
            assert_eq!(code(line), expected, "{line}");
        }
    }

    #[test]
    fn this_process_has_code_that_can_be_listed_or_is_told_why_not() {
        let mounts = mounts().unwrap();
        match mapped_code(&mounts) {
            Ok(code) => {
                let program = Place::code(std::env::current_exe().unwrap(), own::CODE | own::PROGRAM);
                assert!(code.contains(&program), "{code:?}");
            }
            // Where tests are built on such a file system.
            Err(SealError::Code { why, .. }) => assert!(why.contains("file system"), "{why}"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn mounts_on_the_way() {
        let mount = |point: &str, id, group| Mount {
            point: point.into(),
            device: 5,
            id,
            group,
            kind: "tmpfs".to_owned(),
        };
        let mounts =
            [mount("/", 20, 7), mount("/sys", 21, 0), mount("/sys/fs/bpf", 22, 9), mount("/mnt", 23, 10)];
        let mut list = Entries::new();
        list_mounts(&mut list, ["/sys/fs/bpf/enforcer".into()].into_iter(), &mounts);
        let numbers = |kind: OwnKind| -> Vec<u64> {
            list.keys().filter(|key| key.kind == kind.code()).map(|key| key.number).collect()
        };
        assert_eq!((numbers(OwnKind::Mount), numbers(OwnKind::Group)), (vec![20, 21, 22], vec![7, 9]));
    }
}
