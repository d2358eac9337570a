//! The Kubernetes manifests below `deploy/`: rendered by kustomize and by Helm, compared and validated by `deploy/check.py`.

use std::fs;

use anyhow::{Context, Result};

use crate::paths::{self, Cache};
use crate::process;
use crate::provision::lock::Lock;
use crate::provision::{python, tool};

/// Fails when a manifest is not valid, or the chart and the kustomize base are not the same.
pub(crate) fn check() -> Result<()> {
    let cache = Cache::open()?;
    let kubectl = tool::KUBECTL.ensure(&cache, &Lock::read()?)?.program;
    let python = python::ensure(&cache)?;
    let deploy = paths::workspace().join("deploy");
    let scratch = tempfile::tempdir().context("creating a temporary directory")?;
    let kustomized = |directory: &str| {
        let text = process::output(
            process::command(&kubectl.display().to_string()).arg("kustomize").arg(deploy.join(directory)),
        )?;
        let file = scratch.path().join(directory.replace('/', "-"));
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        anyhow::Ok(file)
    };
    let (base, with_tpm) = (kustomized("kustomize/base")?, kustomized("kustomize/tpm")?);
    let mut check = process::command(&python.display().to_string());
    check.arg(deploy.join("check.py")).args([base, with_tpm]).arg(deploy.join("helm/enforcer"));
    process::output(&mut check).map(drop)
}
