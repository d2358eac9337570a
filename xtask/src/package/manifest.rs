//! The manifest that cargo-deb and cargo-generate-rpm read: a package of nothing but metadata.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::contents::{File, Within};
use super::inspect::Needs;

const SUMMARY: &str = "Kernel-level allowlist enforcement for containers and services";

const DESCRIPTION: &str = "BPF-LSM programs refuse every program start, executable mapping, file access and network \
    connection that a workload's policy does not name. Policies are signed, bound to the state that the platform booted \
    into, and admitted by its TPM.";

const MAINTAINER: &str = "Enforcer maintainers <maintainers@enforcer.invalid>";

/// The manifest for these files. Scripts come with their keys in the `.rpm`'s metadata; those of the `.deb` are in `deb/`.
pub(super) fn text(files: &[File], needs: &Needs, rpm_scripts: &[(&str, String)]) -> Result<String> {
    let mut package = table([
        ("name", "enforcer"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("edition", "2024"),
        ("license", "Apache-2.0 OR GPL-2.0-only"),
        ("description", SUMMARY),
    ]);
    let metadata = Table::from_iter([
        ("deb".to_owned(), Value::Table(deb(files, needs))),
        ("generate-rpm".to_owned(), Value::Table(rpm(files, needs, rpm_scripts))),
    ]);
    package.insert("metadata".to_owned(), Value::Table(metadata));
    let manifest = Table::from_iter([
        ("package".to_owned(), Value::Table(package)),
        // Not a member of the workspace around it.
        ("workspace".to_owned(), Value::Table(Table::new())),
    ]);
    toml::to_string(&manifest).context("writing the package's manifest")
}

fn deb(files: &[File], needs: &Needs) -> Table {
    let mut deb = table([
        ("maintainer", MAINTAINER),
        ("extended-description", DESCRIPTION),
        ("section", "admin"),
        ("priority", "optional"),
        ("depends", &needs.deb()),
        ("suggests", "podman"),
        ("maintainer-scripts", "deb"),
    ]);
    let asset = |file: &File| {
        let words = [path(file), file.target.clone(), format!("{:o}", file.mode)];
        Value::Array(words.into_iter().map(Value::String).collect())
    };
    let assets = files.iter().filter(|file| file.within != Within::Rpm).map(asset).collect();
    deb.insert("assets".to_owned(), Value::Array(assets));
    deb
}

fn rpm(files: &[File], needs: &Needs, scripts: &[(&str, String)]) -> Table {
    let mut rpm = table([("summary", SUMMARY), ("release", "1")]);
    for (key, text) in scripts {
        rpm.insert((*key).to_owned(), Value::String(text.clone()));
    }
    let asset = |file: &File| {
        let mut asset = table([
            ("source", path(file).as_str()),
            ("dest", &format!("/{}", file.target)),
            ("mode", &format!("{:o}", file.mode)),
        ]);
        if file.is_documentation() {
            asset.insert("doc".to_owned(), Value::Boolean(true));
        }
        Value::Table(asset)
    };
    let assets = files.iter().filter(|file| file.within != Within::Deb).map(asset).collect();
    rpm.insert("assets".to_owned(), Value::Array(assets));
    let requires = needs.rpm().into_iter().map(|name| (name, Value::String("*".to_owned()))).collect();
    rpm.insert("requires".to_owned(), Value::Table(requires));
    rpm
}

fn path(file: &File) -> String {
    file.source.display().to_string()
}

fn table<const N: usize>(entries: [(&str, &str); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value.to_owned()))).collect()
}
