//! The tree of cgroups (version 2): which there are, what they are called, which tasks they hold.
//!
//! A cgroup's id is the inode number of its directory; its name here is the path below the root, as the kernel's
//! tracepoints give it.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

/// A hierarchy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is none.
    #[error(
        "no cgroup v2 hierarchy is mounted; mount one with `mount -t cgroup2 none /sys/fs/cgroup`, or boot with \
         `systemd.unified_cgroup_hierarchy=1`"
    )]
    NotMounted,
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// One cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id.
    pub id: u64,
    /// Its path, `/` for the root.
    pub path: Vec<u8>,
    /// Index of its parent in the list that [`Hierarchy::walk`] returned. `None` for the root.
    pub parent: Option<usize>,
}

/// The mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    root: PathBuf,
}

impl Hierarchy {
    /// Finds where version 2 is mounted.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub fn find() -> Result<Self, CgroupError> {
        const MOUNTINFO: &str = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(MOUNTINFO)
            .map_err(|source| CgroupError::Read { path: MOUNTINFO.into(), source })?;
        mount_point(&mounts, "cgroup2").map(|root| Self { root: root.into() }).ok_or(CgroupError::NotMounted)
    }

    /// A hierarchy at a directory, for tests.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Every cgroup, parents before children. Cgroups that go away meanwhile are left out.
    ///
    /// # Errors
    /// [`CgroupError`] when one of them cannot be read: what is left out loses its binding.
    pub fn walk(&self) -> Result<Vec<Cgroup>, CgroupError> {
        self.walk_from(b"/")
    }

    /// The cgroup with this path and every one below it, as [`Hierarchy::walk`] lists them: the first has no parent here.
    ///
    /// # Errors
    /// [`CgroupError`] when that cgroup cannot be read, or the path is none.
    pub fn walk_from(&self, path: &[u8]) -> Result<Vec<Cgroup>, CgroupError> {
        let read = |source| CgroupError::Read { path: self.directory(path), source };
        let id = self.id(path).ok_or_else(|| read(io::ErrorKind::NotFound.into()))?;
        let mut found = vec![Cgroup { id, path: path.to_vec(), parent: None }];
        let mut next = 0;
        while let Some(cgroup) = found.get(next) {
            let path = cgroup.path.clone();
            let read = |source| CgroupError::Read { path: self.directory(&path), source };
            let directory = fs::read_dir(self.directory(&path));
            // The first was there when it was asked for.
            let children = if next == 0 { Some(directory) } else { unless_gone(directory) };
            for child in children.transpose().map_err(read)?.into_iter().flatten() {
                let Some(child) = unless_gone(child).transpose().map_err(read)? else { continue };
                // The file type comes with the entry.
                if !child.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let Some(metadata) = unless_gone(child.metadata()).transpose().map_err(read)? else {
                    continue;
                };
                found.push(Cgroup {
                    id: metadata.ino(),
                    path: join(&path, child.file_name().as_bytes()),
                    parent: Some(next),
                });
            }
            next += 1;
        }
        Ok(found)
    }

    /// Processes in a cgroup itself, not below. Empty if it is gone.
    #[must_use]
    pub fn processes(&self, path: &[u8]) -> Vec<u32> {
        let list = fs::read_to_string(self.directory(path).join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The id of the cgroup with this path, if there is one.
    #[must_use]
    pub fn id(&self, path: &[u8]) -> Option<u64> {
        let metadata = is_plain(path).then(|| fs::metadata(self.directory(path)).ok())??;
        metadata.is_dir().then(|| metadata.ino())
    }

    /// Where it is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the cgroup with this path.
    #[must_use]
    pub fn directory(&self, path: &[u8]) -> PathBuf {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        self.root.join(Path::new(std::ffi::OsStr::from_bytes(relative)))
    }
}

/// What was found out about a cgroup, unless it is gone.
fn unless_gone<T>(result: io::Result<T>) -> Option<io::Result<T>> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => None,
        other => Some(other),
    }
}

/// Whether a path names a cgroup the way the kernel does: from the root, no component empty, `.` or `..`. Another name
/// could lead to a cgroup that it does not name.
fn is_plain(path: &[u8]) -> bool {
    let is_name = |component: &[u8]| !matches!(component, b"" | b"." | b"..");
    path == b"/" || path.strip_prefix(b"/").is_some_and(|rest| rest.split(|byte| *byte == b'/').all(is_name))
}

/// The path of the cgroup that a process is in, by `/proc`.
#[must_use]
pub fn of_process(pid: u32) -> Option<Vec<u8>> {
    let list = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    list.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::")).map(<[u8]>::to_vec)
}

/// The systemd unit that a cgroup belongs to: the last component that names one.
#[must_use]
pub fn unit(path: &[u8]) -> Option<String> {
    const SUFFIXES: [&str; 3] = [".service", ".scope", ".slice"];
    let text = String::from_utf8_lossy(path);
    text.split('/').rev().find(|name| SUFFIXES.iter().any(|suffix| name.ends_with(suffix))).map(str::to_owned)
}

/// Where a file system of this type is mounted first, in the format of `/proc/self/mountinfo`.
#[must_use]
pub fn mount_point(mountinfo: &str, fs_type: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (mount, super_block) = line.split_once(" - ")?;
        (super_block.split(' ').next() == Some(fs_type))
            .then(|| mount.split(' ').nth(4).map(unescape))
            .flatten()
    })
}

/// A mount of our namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub point: PathBuf,
    /// The number of its file system, as the kernel keeps it.
    pub device: u32,
    /// Its own number.
    pub id: u32,
    /// The group of mounts that it propagates to; 0 if there is none.
    pub group: u32,
    /// Which file system it is.
    pub kind: String,
}

/// The mounts of our namespace, in the order in which they were made.
///
/// # Errors
/// When they cannot be read.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().filter_map(mount).collect())
}

fn mount(line: &str) -> Option<Mount> {
    /// `MINORBITS`.
    const MINOR_BITS: u32 = 20;
    let (mount, file_system) = line.split_once(" - ")?;
    let mut words = mount.split(' ');
    let id = words.next()?.parse().ok()?;
    let (major, minor) = words.nth(1)?.split_once(':')?;
    let device = major.parse::<u32>().ok()? << MINOR_BITS | minor.parse::<u32>().ok()?;
    let point = unescape(words.nth(1)?).into();
    let group = words.find_map(|word| word.strip_prefix("shared:")).map_or(Some(0), |id| id.parse().ok())?;
    Some(Mount { point, device, id, group, kind: file_system.split(' ').next()?.to_owned() })
}

/// Undoes the octal escapes of mountinfo for the characters that it escapes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = parent.strip_suffix(b"/").unwrap_or(parent).to_vec();
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_lists_parents_before_children() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("system.slice/web.service/worker")).unwrap();
        fs::create_dir_all(root.path().join("user.slice")).unwrap();
        fs::write(root.path().join("cgroup.procs"), "1\n22\n").unwrap();
        let hierarchy = Hierarchy::at(root.path());
        let found = hierarchy.walk().unwrap();
        let mut paths: Vec<_> =
            found.iter().map(|cgroup| String::from_utf8(cgroup.path.clone()).unwrap()).collect();
        for cgroup in &found[1..] {
            let parent = &found[cgroup.parent.unwrap()];
            assert!(cgroup.path.starts_with(&parent.path));
            assert_eq!(hierarchy.id(&cgroup.path), Some(cgroup.id));
        }
        paths.sort();
        let expected = [
            "/",
            "/system.slice",
            "/system.slice/web.service",
            "/system.slice/web.service/worker",
            "/user.slice",
        ];
        assert_eq!(paths, expected);
        assert_eq!(hierarchy.processes(b"/"), [1, 22]);
        assert_eq!(hierarchy.processes(b"/gone"), Vec::<u32>::new());
        let below: Vec<_> = hierarchy.walk_from(b"/system.slice/web.service").unwrap();
        let below: Vec<_> = below.iter().map(|cgroup| (cgroup.path.as_slice(), cgroup.parent)).collect();
        let expected: [(&[u8], _); 2] =
            [(b"/system.slice/web.service", None), (b"/system.slice/web.service/worker", Some(0))];
        assert_eq!(below, expected);
    }

    #[test]
    fn only_the_kernel_s_name_of_a_cgroup_leads_to_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("pods/one")).unwrap();
        fs::write(root.path().join("cgroup.procs"), "").unwrap();
        let hierarchy = Hierarchy::at(root.path());
        assert!(hierarchy.id(b"/").is_some() && hierarchy.id(b"/pods/one").is_some());
        let others: [&[u8]; 9] = [
            b"",
            b"pods",
            b"/pods/",
            b"//pods",
            b"/pods/./one",
            b"/pods/one/..",
            b"/..",
            b"/cgroup.procs",
            b"/pods/two",
        ];
        for other in others {
            assert_eq!(hierarchy.id(other), None, "{}", String::from_utf8_lossy(other));
            assert!(hierarchy.walk_from(other).is_err());
        }
    }

    #[test]
    fn mount_points() {
        let info = "25 30 0:23 / /sys rw - sysfs sysfs rw\n\
                    32 25 0:28 / /sys/fs/cgroup\\040two rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(info, "cgroup2").as_deref(), Some("/sys/fs/cgroup two"));
        assert_eq!(mount_point(info, "bpf"), None);
        let found: Vec<_> = info.lines().filter_map(mount).collect();
        let expected = Mount {
            point: "/sys/fs/cgroup two".into(),
            device: 28,
            id: 32,
            group: 9,
            kind: "cgroup2".into(),
        };
        assert_eq!(found[1], expected);
        let other = mount("40 1 8:17 / /mnt rw master:3 - ext4 /dev/sdb1 rw").unwrap();
        assert_eq!((other.device, other.group, other.kind.as_str()), (8 << 20 | 17, 0, "ext4"));
        assert_eq!(mount("40 1 8:17 / /mnt rw shared:x - ext4 /dev/sdb1 rw"), None);
    }

    #[test]
    fn units() {
        let table: [(&[u8], Option<&str>); 4] = [
            (b"/system.slice/nginx.service", Some("nginx.service")),
            (b"/system.slice/nginx.service/worker", Some("nginx.service")),
            (b"/user.slice/user-0.slice/session-1.scope", Some("session-1.scope")),
            (b"/", None),
        ];
        for (path, expected) in table {
            assert_eq!(unit(path).as_deref(), expected);
        }
    }
}
