//! Which cgroup a container has.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A cgroup that cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The list of a process cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No cgroup of version 2.
    #[error(
        "the container's process is in no cgroup of version 2; configure the runtime for unified cgroups"
    )]
    NoCgroup,
}

/// The cgroup of a process; `proc` is where procfs is mounted.
///
/// # Errors
/// [`CgroupError`].
pub fn of_process(proc: &Path, pid: u32) -> Result<String, CgroupError> {
    let path = proc.join(pid.to_string()).join("cgroup");
    let list = fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })?;
    let cgroup = list.lines().find_map(|line| line.strip_prefix("0::")).ok_or(CgroupError::NoCgroup)?;
    Ok(cgroup.to_owned())
}

/// The outermost cgroup that is named after the container; `None` if there is none. Runtimes put the process into a cgroup
/// below it, and later ones beside that.
#[must_use]
pub fn outermost<'a>(cgroup: &'a str, id: &str) -> Option<&'a str> {
    let mut end = 0;
    for component in cgroup.split('/').skip(1) {
        end += 1 + component.len();
        if !id.is_empty() && component.contains(id) {
            return cgroup.get(..end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_containers() {
        let table = [
            ("/machine.slice/libpod-abc.scope/container", "abc", Some("/machine.slice/libpod-abc.scope")),
            ("/machine.slice/libpod-abc.scope", "abc", Some("/machine.slice/libpod-abc.scope")),
            ("/default/abc/init", "abc", Some("/default/abc")),
            ("/default/abc/abc", "abc", Some("/default/abc")),
            ("/system.slice/other.service", "abc", None),
            ("/system.slice/other.service", "", None),
            ("/", "abc", None),
        ];
        for (cgroup, id, expected) in table {
            assert_eq!(outermost(cgroup, id), expected, "{cgroup}");
        }
    }

    #[test]
    fn cgroups_of_processes() {
        let proc = tempfile::tempdir().unwrap();
        let write = |pid: &str, text: &str| {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("cgroup"), text).unwrap();
        };
        write("7", "12:cpu:/legacy\n0::/default/abc\n");
        write("8", "12:cpu:/legacy\n");
        assert_eq!(of_process(proc.path(), 7).unwrap(), "/default/abc");
        assert!(matches!(of_process(proc.path(), 8), Err(CgroupError::NoCgroup)));
        assert!(matches!(of_process(proc.path(), 9), Err(CgroupError::Read { .. })));
    }
}
