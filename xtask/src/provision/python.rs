//! Python programs, each by its hash, in an environment of their own in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::apt;
use crate::paths::{self, Cache};
use crate::{process, ui};

/// What is installed.
const REQUIREMENTS: &str = "xtask/manifests.txt";

/// The machine's own, not one that a user has put on `PATH`: wheels are listed for one version.
const PYTHON: &str = "/usr/bin/python3";

/// The interpreter of an environment with everything that checks manifests.
pub(crate) fn ensure(cache: &Cache) -> Result<PathBuf> {
    let requirements = paths::workspace().join(REQUIREMENTS);
    let text = fs::read(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let hash = hex::encode(&Sha256::digest(&text)[..8]);
    let root = cache.get_or_make(&format!("tools/manifests-{hash}"), |root| {
        apt::ensure(&[apt::Purpose::Manifests])?;
        let step = ui::step("installing what checks Kubernetes manifests");
        // By copies: links into the machine's Python would survive its next version, and not work.
        process::output(process::command(PYTHON).args(["-m", "venv", "--copies"]).arg(root))?;
        let mut pip = process::command(&interpreter(root).display().to_string());
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--require-hashes", "--only-binary", ":all:", "--requirement"]).arg(&requirements);
        process::output(&mut pip).with_context(|| format!("installing {REQUIREMENTS}"))?;
        step.done();
        Ok(())
    })?;
    Ok(interpreter(&root))
}

fn interpreter(root: &Path) -> PathBuf {
    root.join("bin/python3")
}
