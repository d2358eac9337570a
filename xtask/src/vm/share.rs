//! `--share`: a host directory as a disk in the guest, and its changes back.
//!
//! Debian's cloud kernels have no 9p and QEMU's virtiofs needs a daemon and shared memory, so the directory is
//! copied into an ext4 image before and compared with it after the run. Changed and new files come back;
//! deletions do not, so that a confused guest cannot empty a host directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process;

/// Room for new files in the guest; the image is sparse, so it costs nothing.
const HEADROOM_KIB: u64 = 1 << 20;

/// The disk made from a directory.
pub(super) struct ShareDisk {
    directory: PathBuf,
    image: PathBuf,
}

impl ShareDisk {
    /// Copies the directory into a new image inside `scratch`.
    pub(super) fn create(directory: &Path, scratch: &Path) -> Result<Self> {
        ensure!(directory.is_dir(), "{} is not a directory", directory.display());
        let image = scratch.join("share.ext4");
        let used =
            process::text(process::command("du").args(["--summarize", "--block-size=1K"]).arg(directory))?;
        let used: u64 =
            used.split_whitespace().next().and_then(|n| n.parse().ok()).context("reading du's answer")?;
        let size = used + used / 4 + HEADROOM_KIB;
        let mut mke2fs = process::command("mke2fs");
        // No journal: the guest syncs before it reports, and the host reads the image directly.
        mke2fs.args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"]).arg(directory).arg(&image);
        process::output(mke2fs.arg(format!("{size}K"))).context("making the shared disk")?;
        Ok(Self { directory: directory.to_owned(), image })
    }

    /// The disk image.
    pub(super) fn image(&self) -> &Path {
        &self.image
    }

    /// Copies what the guest changed or added back to the host's directory.
    pub(super) fn copy_back(&self, scratch: &Path) -> Result<()> {
        let copy = scratch.join("share.out");
        fs::create_dir(&copy).context("creating a directory for the shared files")?;
        let request = format!("rdump / {}", copy.display());
        process::output(process::command("debugfs").arg("-R").arg(request).arg(&self.image))?;
        merge(&copy, &self.directory).with_context(|| format!("updating {}", self.directory.display()))
    }
}

fn merge(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if entry.file_name() == "lost+found" {
                continue;
            }
            fs::create_dir_all(&target).with_context(|| format!("creating {}", target.display()))?;
            merge(&source, &target)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source)?;
            if fs::read_link(&target).ok().as_deref() != Some(&link) {
                let _ = fs::remove_file(&target);
                std::os::unix::fs::symlink(&link, &target)
                    .with_context(|| format!("linking {}", target.display()))?;
            }
        } else if kind.is_file() {
            let data = fs::read(&source)?;
            // A link on the host's side is replaced, never written through.
            let unchanged = fs::symlink_metadata(&target).is_ok_and(|target| target.is_file())
                && fs::read(&target).is_ok_and(|old| old == data);
            if !unchanged {
                let _ = fs::remove_file(&target);
                fs::write(&target, data).with_context(|| format!("writing {}", target.display()))?;
                let mode = entry.metadata()?.permissions().mode() & 0o777;
                fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_and_deletions_do_not() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (root, file, text) in [
            (&from, "new", "n"),
            (&from, "changed", "after"),
            (&to, "changed", "before"),
            (&to, "deleted", "kept"),
        ] {
            fs::write(root.path().join(file), text).unwrap();
        }
        fs::create_dir_all(from.path().join("lost+found/x")).unwrap();
        fs::create_dir(from.path().join("sub")).unwrap();
        fs::write(from.path().join("sub/file"), "s").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", to.path().join("new")).unwrap();
        merge(from.path(), to.path()).unwrap();
        let read = |file: &str| fs::read_to_string(to.path().join(file)).unwrap();
        assert_eq!(
            [read("new"), read("changed"), read("deleted"), read("sub/file")],
            ["n", "after", "kept", "s"]
        );
        assert!(!to.path().join("lost+found").exists());
    }
}
