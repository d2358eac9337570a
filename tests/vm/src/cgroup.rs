//! Cgroups of the tests.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::wait;

/// Where cgroup v2 is mounted.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// Parent of every cgroup that the tests make.
pub const PARENT: &str = "/enforcer-test";

/// A cgroup with everything below it; both go when this is dropped, the tasks in them included.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
}

impl Cgroup {
    /// Creates a cgroup below [`PARENT`]. One that an earlier, crashed test left is removed first.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn create(name: &str) -> Self {
        let cgroup = Self { path: format!("{PARENT}/{name}") };
        remove(&cgroup.directory());
        fs::create_dir_all(cgroup.directory()).expect("creating a cgroup");
        cgroup
    }

    /// Creates a cgroup inside this one. It goes with this one.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let child = Self { path: format!("{}/{name}", self.path) };
        fs::create_dir_all(child.directory()).expect("creating a child cgroup");
        child
    }

    /// Its name as policies write it, from the root of the hierarchy.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(format!("{MOUNT}{}", self.path))
    }

    /// The id that the kernel knows it by.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn id(&self) -> u64 {
        fs::metadata(self.directory()).expect("the cgroup exists").ino()
    }

    /// The file that tasks join through.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn procs(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.directory().join("cgroup.procs"))
    }

    /// Moves a process in.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn adopt(&self, pid: u32) {
        fs::write(self.directory().join("cgroup.procs"), pid.to_string())
            .expect("moving a process into a cgroup");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.directory());
    }
}

/// Kills what is inside and removes the directory, children first. Leaves what it cannot remove: this runs in `drop`.
fn remove(directory: &Path) {
    if !directory.exists() {
        return;
    }
    let _ = fs::write(directory.join("cgroup.kill"), "1");
    let empty = || {
        let events = fs::read_to_string(directory.join("cgroup.events")).ok()?;
        events.contains("populated 0").then_some(())
    };
    if std::thread::panicking() {
        // A second panic would abort and lose the first one's message.
        let _ = std::panic::catch_unwind(|| wait::until("cgroup to be empty", wait::SOON, empty));
    } else {
        wait::until("cgroup to be empty", wait::SOON, empty);
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}
