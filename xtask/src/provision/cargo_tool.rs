//! Programs from the crate registry, each in an exact version, in the cache instead of where cargo puts the user's own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Cache;
use crate::{process, ui};

/// One such program.
pub(crate) struct CargoTool {
    name: &'static str,
    version: &'static str,
}

/// Makes `.deb`s.
pub(crate) const CARGO_DEB: CargoTool = CargoTool { name: "cargo-deb", version: "3.8.0" };

/// Makes `.rpm`s.
pub(crate) const CARGO_GENERATE_RPM: CargoTool = CargoTool { name: "cargo-generate-rpm", version: "0.21.1" };

impl CargoTool {
    /// The program, built unless the cache has it.
    pub(crate) fn ensure(&self, cache: &Cache) -> Result<PathBuf> {
        let (name, version) = (self.name, self.version);
        let root = cache.get_or_make(&format!("tools/{name}-{version}"), |root| {
            let step = ui::step(format!("building {name} {version} (about a minute)"));
            let build = tempfile::tempdir().context("creating a temporary directory")?;
            let mut cargo = installer(name, version);
            cargo.arg("--root").arg(root).env("CARGO_TARGET_DIR", build.path());
            process::output(&mut cargo).with_context(|| format!("installing {name}"))?;
            step.done();
            Ok(())
        })?;
        Ok(root.join("bin").join(name))
    }
}

/// `cargo install` of a program from the registry, outside every workspace, whose settings and target directory are not
/// for this.
pub(super) fn installer(name: &str, version: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["install", name, "--version", version, "--locked"]).current_dir("/").env_remove("RUSTFLAGS");
    // These programs run for seconds: what optimising them takes is never won back.
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    cargo
}
