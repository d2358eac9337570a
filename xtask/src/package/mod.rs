//! Packages for hosts: a `.deb` (cargo-deb) and a `.rpm` (cargo-generate-rpm) from one list of files.
//!
//! [`contents`] says what goes where, [`scripts`] puts the maintainer scripts together, [`manifest`] writes what both tools
//! read. Everything is first laid out below `target/package`, so both take the same bytes, and [`inspect`] reads the finished
//! packages back and compares. [`image`] is the same for containers.

mod contents;
pub(crate) mod image;
mod inspect;
mod manifest;
mod scripts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths::{self, Cache};
use crate::provision::{apt, cargo_tool};
use crate::vm::Program;
use crate::{process, ui};

pub(crate) use contents::is_shipped;

/// What packages are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Tests: hardly compressed.
    Test,
    /// Those who download them.
    Release,
}

impl Purpose {
    /// Where everything about such packages is laid out.
    fn directory(self) -> PathBuf {
        paths::target().join("package").join(if self == Self::Test { "dev" } else { "release" })
    }
}

/// The finished files.
#[derive(Debug, Clone)]
pub(crate) struct Packages {
    /// For Debian and its relatives.
    pub(crate) deb: PathBuf,
    /// For Fedora, RHEL, SUSE and theirs.
    pub(crate) rpm: PathBuf,
}

impl Packages {
    /// Writes a `.deb` that holds the same under a newer version.
    pub(crate) fn next_deb(&self, file: &Path) -> Result<()> {
        let scratch = tempfile::tempdir().context("creating a temporary directory")?;
        let tree = scratch.path().join("tree");
        process::output(process::command("dpkg-deb").arg("--raw-extract").arg(&self.deb).arg(&tree))?;
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control).context("reading the package's control file")?;
        let version = |line: &str| match line.strip_prefix("Version: ") {
            Some(version) => format!("Version: {version}+next\n"),
            None => format!("{line}\n"),
        };
        let newer: String = text.lines().map(version).collect();
        ensure!(newer.contains("+next\n"), "the package has no version");
        fs::write(&control, newer).context("writing the package's control file")?;
        let mut deb = process::command("dpkg-deb");
        process::output(deb.args(["--root-owner-group", "-Zgzip", "-z1", "--build"]).arg(&tree).arg(file))?;
        Ok(())
    }
}

/// Makes both packages of these programs, and checks that they are what they should be.
pub(crate) fn make(cache: &Cache, programs: &[Program], purpose: Purpose) -> Result<Packages> {
    apt::ensure(&[apt::Purpose::Package])?;
    let (deb_tool, rpm_tool) =
        (cargo_tool::CARGO_DEB.ensure(cache)?, cargo_tool::CARGO_GENERATE_RPM.ensure(cache)?);
    let step = ui::step("packing the .deb and the .rpm");
    let root = purpose.directory();
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("src")).with_context(|| format!("creating {}", root.display()))?;
    // Cargo wants something to compile, and compiles nothing.
    fs::write(root.join("src/lib.rs"), "").context("writing the package's source")?;
    let files = contents::lay_out(&root.join("files"), programs)?;
    let units = contents::units()?;
    let needs = inspect::Needs::of(&files)?;
    for (name, text) in scripts::deb(&units)? {
        fs::create_dir_all(root.join("deb")).context("creating a directory for scripts")?;
        fs::write(root.join("deb").join(name), text).context("writing a script")?;
    }
    let manifest = manifest::text(&files, &needs, &scripts::rpm(&units)?)?;
    fs::write(root.join("Cargo.toml"), manifest).context("writing the package's manifest")?;

    let packages = Packages { deb: root.join("enforcer.deb"), rpm: root.join("enforcer.rpm") };
    let mut deb = tool(&deb_tool, &root)?;
    deb.args(["--no-build", "--no-strip", "--no-dbgsym", "--output"]).arg(&packages.deb);
    if purpose == Purpose::Test {
        deb.arg("--fast");
    }
    process::output(&mut deb).context("making the .deb")?;
    let mut rpm = tool(&rpm_tool, &root)?;
    rpm.arg("generate-rpm").args(["--auto-req", "disabled", "--output"]).arg(&packages.rpm);
    rpm.args(["--payload-compress", if purpose == Purpose::Test { "gzip" } else { "zstd" }]);
    process::output(&mut rpm).context("making the .rpm")?;
    inspect::check(&packages, &files, &units)?;
    step.done();
    Ok(packages)
}

/// A packaging tool in the package's directory. Both write times of the last commit, so that equal trees give equal files.
fn tool(program: &Path, root: &Path) -> Result<Command> {
    let mut git = process::command("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(paths::workspace());
    let time = process::text(&mut git)?;
    ensure!(!time.trim().is_empty(), "git knows no commit");
    let mut command = Command::new(program);
    command.current_dir(root).env("SOURCE_DATE_EPOCH", time.trim());
    Ok(command)
}
