//! `cargo xtask package`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::build::{self, Profile};
use crate::package::{self, Purpose};
use crate::paths::Cache;
use crate::ui;

/// Make the .deb and the .rpm for hosts, from optimised builds.
///
/// `enforcer` is linked with the C library and libtss2 of this machine, so build on the oldest distribution that the packages
/// are for; `enforcer-oci-hook` is static. Both packages are read back and compared with what was to be in them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Put them into DIR instead of target/package/release.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Lay out the root directory of the container image, too (deploy/container/Containerfile).
    #[arg(long)]
    image: bool,
    /// Build without optimisation, as tests do.
    #[arg(long)]
    dev: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let (profile, purpose) =
        if args.dev { (Profile::Dev, Purpose::Test) } else { (Profile::Release, Purpose::Release) };
    let programs = build::shipped(&cache, profile)?;
    let packages = package::make(&cache, &programs, purpose)?;
    if args.image {
        ui::out(&package::image::lay_out(&programs, purpose)?.display().to_string());
    }
    for file in [packages.deb, packages.rpm] {
        let file = match &args.output {
            Some(directory) => {
                let copy = directory.join(file.file_name().context("a package has a name")?);
                std::fs::create_dir_all(directory)
                    .with_context(|| format!("creating {}", directory.display()))?;
                let _ = std::fs::copy(&file, &copy).with_context(|| format!("writing {}", copy.display()))?;
                copy
            }
            None => file,
        };
        ui::out(&file.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}
