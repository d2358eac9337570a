//! Programs under test, on their way into a guest.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{paths, process};

/// A built program and the name it gets in the guest.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// File name below `/usr/local/bin`.
    pub(crate) name: String,
    /// Where cargo put it.
    pub(crate) file: PathBuf,
}

impl Program {
    /// The program's bytes without debug information, which is most of a debug build and would be unpacked by an
    /// emulated CPU at every boot. Symbols stay, for backtraces.
    pub(crate) fn stripped(&self) -> Result<Vec<u8>> {
        let stripped = stripped_path(&self.file)?;
        if !stripped.exists() {
            let parent = stripped.parent().context("a stripped program has a parent")?;
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
            let scratch = tempfile::NamedTempFile::new_in(parent).context("creating a temporary file")?;
            process::output(
                process::command("strip").args(["--strip-debug", "-o"]).arg(scratch.path()).arg(&self.file),
            )?;
            scratch.persist(&stripped).with_context(|| format!("storing {}", stripped.display()))?;
        }
        fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))
    }
}

/// One place per path, size and time of the original.
fn stripped_path(file: &Path) -> Result<PathBuf> {
    let metadata = fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?;
    let mut hasher = DefaultHasher::new();
    (file, metadata.len(), metadata.modified().ok()).hash(&mut hasher);
    Ok(paths::target().join("vm/stripped").join(format!("{:016x}", hasher.finish())))
}
