//! The files that operations work on, and the rules that allow the operations: the same for every kind of protection.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use enforcer_vm_tests::actor::installed;

/// Everything lies here, on the root file system, which is a tmpfs.
pub const ROOT: &str = "/bench";
/// A file two components deep.
pub const SHALLOW: &str = "/bench/file";
/// A file eight components deep.
pub const DEEP: &str = "/bench/b/c/d/e/f/g/file";
/// A file that may be written to.
pub const WRITABLE: &str = "/bench/writable";
/// A file that may be mapped as code.
pub const LIBRARY: &str = "/bench/library";
/// A static program that does nothing.
pub const STATIC_PROGRAM: &str = "/bench/static-program";
/// A dynamic program that does nothing.
pub const DYNAMIC_PROGRAM: &str = "/bench/dynamic-program";
/// Files that have never been opened, two components deep.
pub const FRESH_SHALLOW: &str = "/fresh";
/// Files that have never been opened, eight components deep.
pub const FRESH_DEEP: &str = "/bench/b/c/d/e/f/fresh";
/// What is made and removed again lies here.
pub const WORK: &str = "/bench/work";
/// A file that no rule allows.
pub const REFUSED: &str = "/bench/refused";
/// A program that no rule allows.
pub const REFUSED_PROGRAM: &str = "/bench/refused-program";
/// Files that nobody opens: their rules make a policy large.
pub const FILLER: &str = "/bench/filler";
/// The port of every server on loopback.
pub const PORT: u16 = 7001;
/// A port of loopback that no rule allows.
pub const REFUSED_PORT: u16 = 7003;
/// A unix socket's path.
pub const STREAM_SOCKET: &str = "/bench/work/stream";
/// A unix datagram socket's path.
pub const DATAGRAM_SOCKET: &str = "/bench/work/datagram";

/// Files that may be read, and nothing else.
pub const READABLE: &[&str] = &[SHALLOW, DEEP];
/// Directories whose files may be made, read, changed and removed.
pub const CHANGEABLE: &[&str] = &[FRESH_SHALLOW, FRESH_DEEP, WORK];

/// The measured program.
#[must_use]
pub fn program() -> PathBuf {
    installed("bench-ops")
}

/// A file that nobody opens.
#[must_use]
pub fn filler(index: usize) -> String {
    format!("{FILLER}/{index:06}")
}

/// Makes all files.
///
/// # Errors
/// Those of the file system.
pub fn lay_out() -> Result<()> {
    for directory in [ROOT, FILLER].iter().chain(CHANGEABLE) {
        fs::create_dir_all(directory).with_context(|| format!("creating {directory}"))?;
    }
    let deep = Path::new(DEEP).parent().context("a deep file has a parent")?;
    fs::create_dir_all(deep).with_context(|| format!("creating {}", deep.display()))?;
    for file in [SHALLOW, DEEP, WRITABLE, REFUSED] {
        fs::write(file, [0; 4096]).with_context(|| format!("writing {file}"))?;
    }
    for (program, copy) in [
        ("bench-nothing", STATIC_PROGRAM),
        ("bench-nothing", REFUSED_PROGRAM),
        ("bench-nothing", LIBRARY),
        ("bench-nothing-dynamic", DYNAMIC_PROGRAM),
    ] {
        fs::copy(installed(program), copy).with_context(|| format!("copying {program} to {copy}"))?;
        fs::set_permissions(copy, fs::Permissions::from_mode(0o755)).context("making it executable")?;
    }
    Ok(())
}
