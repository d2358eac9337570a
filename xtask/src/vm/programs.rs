//! Programs under test, on their way into a guest.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::libraries;
use crate::{paths, process};

/// A built program and the name it gets in the guest.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// File name below `/usr/local/bin`.
    pub(crate) name: String,
    /// Where cargo put it.
    pub(crate) file: PathBuf,
}

/// A program as it enters the guest.
pub(super) struct Packed {
    /// The file's content.
    pub(super) bytes: Vec<u8>,
    /// Shared libraries to bring along; none for a static program.
    pub(super) libraries: Vec<PathBuf>,
}

impl Program {
    /// Reads the program without its debug information, which is most of a debug build and would be unpacked by an
    /// emulated CPU at every boot. Symbols stay, for backtraces.
    pub(super) fn pack(&self) -> Result<Packed> {
        let packed = packed_path(&self.file)?;
        if !packed.exists() {
            let parent = packed.parent().context("a packed program has a parent")?;
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
            let scratch = tempfile::NamedTempFile::new_in(parent).context("creating a temporary file")?;
            process::output(
                process::command("strip").args(["--strip-debug", "-o"]).arg(scratch.path()).arg(&self.file),
            )?;
            if libraries::is_dynamic(&read(scratch.path())?) {
                libraries::redirect(scratch.path())?;
            }
            scratch.persist(&packed).with_context(|| format!("storing {}", packed.display()))?;
        }
        let bytes = read(&packed)?;
        let libraries = if libraries::is_dynamic(&bytes) { libraries::of(&self.file)? } else { Vec::new() };
        Ok(Packed { bytes, libraries })
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

/// One place per path, size and time of the original.
fn packed_path(file: &Path) -> Result<PathBuf> {
    let metadata = fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?;
    let mut hasher = DefaultHasher::new();
    (file, metadata.len(), metadata.modified().ok()).hash(&mut hasher);
    Ok(paths::target().join("vm/packed").join(format!("{:016x}", hasher.finish())))
}
