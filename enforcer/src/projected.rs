//! Directories whose files are replaced as a whole, by one link: what kubelet makes of ConfigMaps. `..data` points to a
//! directory with the files, and is renamed over when there is another.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The link that is replaced.
const LINK: &str = "..data";

/// Such directories, as they were when they were looked at last.
#[derive(Clone, Debug)]
pub struct Projected {
    directories: Vec<(PathBuf, Option<PathBuf>)>,
}

impl Projected {
    /// Looks at those of these paths that are directories. To be done before their files are read: a change during that
    /// is then seen later.
    #[must_use]
    pub fn of(paths: &[PathBuf]) -> Self {
        let directories = paths.iter().filter(|path| path.is_dir());
        Self { directories: directories.map(|path| (path.clone(), target(path))).collect() }
    }

    /// Whether any was replaced since this was asked last.
    #[must_use]
    pub fn has_changed(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.directories {
            let now = target(path);
            changed |= *seen != now;
            *seen = now;
        }
        changed
    }
}

fn target(directory: &Path) -> Option<PathBuf> {
    fs::read_link(directory.join(LINK)).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_replacement_is_seen_once() {
        let root = tempfile::tempdir().unwrap();
        let point_to = |name: &str| {
            symlink(name, root.path().join("new")).unwrap();
            fs::rename(root.path().join("new"), root.path().join(LINK)).unwrap();
        };
        let paths = [root.path().to_owned(), root.path().join("missing")];
        let mut projected = Projected::of(&paths);
        assert!(!projected.has_changed(), "an ordinary directory");
        for name in ["..1", "..2"] {
            point_to(name);
            assert!(projected.has_changed(), "{name}");
            assert!(!projected.has_changed(), "{name}, again");
        }
        fs::write(root.path().join("other.toml"), "").unwrap();
        assert!(!projected.has_changed(), "another file");
    }
}
