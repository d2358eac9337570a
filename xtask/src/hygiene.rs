//! Nothing in the tree may depend on one person's machine.

use std::fs;

use anyhow::{Result, bail};

use crate::{paths, process};

/// Package servers: which one to use is each machine's own configuration. Split, so that this file passes.
const REGISTRIES: &[&str] = &[
    concat!("deb.", "debian.org"),
    concat!("security.", "debian.org"),
    concat!("ftp.", "debian.org"),
    concat!("snapshot.", "debian.org"),
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
    concat!("static.", "rust-lang.org"),
    concat!("pypi.", "org/"),
    concat!("registry.", "npmjs.org"),
    concat!("proxy.", "golang.org"),
];

/// Lock files name the registry that all of Cargo's do.
const EXEMPT: &[&str] = &["Cargo.lock"];

/// Files that git tracks or would track.
pub(crate) fn tracked_files() -> Result<Vec<String>> {
    let mut git = process::command("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(paths::workspace());
    Ok(process::text(&mut git)?.lines().map(str::to_owned).collect())
}

/// Looks for package servers and paths of this machine in every text file.
pub(crate) fn check() -> Result<()> {
    let needles = needles();
    let mut found = Vec::new();
    for file in tracked_files()? {
        if EXEMPT.iter().any(|exempt| file.ends_with(exempt)) {
            continue;
        }
        // What is not text names nothing that a reader would copy.
        let Ok(text) = fs::read_to_string(paths::workspace().join(&file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(needle) = needles.iter().find(|needle| occurs(line, needle)) {
                found.push(format!("{file}:{}: {needle}", number + 1));
            }
        }
    }
    if found.is_empty() {
        Ok(())
    } else {
        bail!("this machine's details in the tree:\n  {}", found.join("\n  "))
    }
}

fn needles() -> Vec<String> {
    let mut needles: Vec<String> = REGISTRIES.iter().map(|host| (*host).to_owned()).collect();
    // Parts of root's home that build tools use; `/root` itself is a legitimate path inside guests.
    needles.extend(["cargo", "rustup", "cache"].map(|name| format!("/root/{}{name}", '.')));
    let home = std::env::var("HOME").unwrap_or_default();
    if home.matches('/').count() > 1 {
        needles.push(format!("{home}/"));
    }
    needles.push(paths::workspace().display().to_string());
    needles
}

/// Whether `needle` occurs, for a path: as a whole one, not as the end of a longer one.
fn occurs(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !needle.starts_with('/') || !before.is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_count_from_their_start_only() {
        let cases = [
            ("see /home/ann/x", true),
            ("\"/home/ann/x\"", true),
            ("{root}/home/ann/x", false),
            ("snapshots/home/ann/x", false),
            ("/home/*/x", false),
        ];
        for (line, expected) in cases {
            assert_eq!(occurs(line, "/home/ann/"), expected, "{line}");
        }
        assert!(occurs("http://host.test/x", "host.test"));
    }
}
