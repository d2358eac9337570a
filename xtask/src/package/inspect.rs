//! What programs need of the machine they are installed on, and what finished packages really hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::Packages;
use super::contents::{File, Within};
use super::scripts;
use crate::process;

/// Shared libraries that may be needed, and the Debian packages that have them. Anything else was linked by mistake.
const LIBRARIES: &[(&str, &str)] = &[
    // Renamed after Debian 12, too.
    ("libcrypto.so.3", "libssl3t64 | libssl3"),
    ("libgcc_s.so.1", "libgcc-s1"),
    // Nothing of it is used, but who links with the one is linked with both.
    ("libssl.so.3", "libssl3t64 | libssl3"),
    ("libtss2-esys.so.0", "libtss2-esys-3.0.2-0"),
    // Debian renamed it after 12; what is in it did not change.
    ("libtss2-mu.so.0", "libtss2-mu-4.0.1-0 | libtss2-mu0"),
    ("libtss2-tctildr.so.0", "libtss2-tctildr0"),
    ("libtss2-tcti-device.so.0", "libtss2-tcti-device0"),
];

/// Opened by name, so no program lists it.
const OPENED_BY_NAME: &str = "libtss2-tcti-device.so.0";

/// Parts of the C library.
const C_LIBRARY: &[&str] = &["libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"];

/// What the programs need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    libraries: BTreeSet<String>,
    /// The newest version of the C library that has a symbol of theirs.
    glibc: (u32, u32),
}

impl Needs {
    /// Reads the programs.
    pub(super) fn of(files: &[File]) -> Result<Self> {
        let mut needs = Self { libraries: BTreeSet::from([OPENED_BY_NAME.to_owned()]), glibc: (0, 0) };
        for program in files.iter().filter(|file| file.is_program()) {
            let listing =
                process::text(process::command("objdump").arg("--private-headers").arg(&program.source))?;
            needs.read(&listing);
        }
        for library in &needs.libraries {
            let known = LIBRARIES.iter().any(|(name, _)| name == library);
            ensure!(known, "a program is linked with {library}, and it is not known which package has that");
        }
        ensure!(needs.glibc > (2, 0), "no program says which C library it needs");
        Ok(needs)
    }

    /// Takes in what `objdump --private-headers` says about a program.
    fn read(&mut self, listing: &str) {
        for line in listing.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["NEEDED", library] if !C_LIBRARY.contains(&library) => {
                    self.libraries.insert(library.to_owned());
                }
                [.., version] => self.glibc = self.glibc.max(glibc(version).unwrap_or_default()),
                [] => {}
            }
        }
    }

    /// The `.deb`'s `Depends`.
    pub(super) fn deb(&self) -> String {
        let (major, minor) = self.glibc;
        let libraries = LIBRARIES.iter().filter(|(name, _)| self.libraries.contains(*name));
        let mut depends = vec![format!("libc6 (>= {major}.{minor})")];
        // A package may have several of them.
        depends.extend(libraries.map(|(_, package)| (*package).to_owned()).collect::<BTreeSet<_>>());
        depends.push("systemd".to_owned());
        depends.join(", ")
    }

    /// The `.rpm`'s `Requires`.
    pub(super) fn rpm(&self) -> Vec<String> {
        let (major, minor) = self.glibc;
        let mut requires = vec![format!("libc.so.6(GLIBC_{major}.{minor})(64bit)")];
        requires.extend(self.libraries.iter().map(|library| format!("{library}()(64bit)")));
        requires.extend(["systemd", "/bin/sh"].map(str::to_owned));
        requires
    }
}

/// `GLIBC_2.34` as numbers.
fn glibc(word: &str) -> Option<(u32, u32)> {
    let (major, minor) = word.strip_prefix("GLIBC_")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// What a package says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Packed {
    /// Its permissions.
    mode: u32,
    /// Whether it is root's.
    is_roots: bool,
    /// SHA-256 of its content, in hexadecimal.
    digest: String,
}

/// Files by path.
type Listing = BTreeMap<String, Packed>;

/// Reads the packages back: the files that were laid out, no others, with their bytes and modes, root's, and the scripts.
pub(super) fn check(packages: &Packages, files: &[File], units: &[String]) -> Result<()> {
    let expected = |without: Within| -> Result<Listing> {
        let within = files.iter().filter(|file| file.within != without);
        let packed = |file: &File| {
            let packed = Packed { mode: file.mode, is_roots: true, digest: digest(&file.source)? };
            Ok((file.target.clone(), packed))
        };
        within.map(packed).collect()
    };
    same("the .deb", &expected(Within::Rpm)?, &deb_listing(&packages.deb)?)?;
    same("the .rpm", &expected(Within::Deb)?, &rpm_listing(&packages.rpm)?)?;
    let functions = scripts::functions(units)?;
    let rpm = process::text(process::command("rpm").args(["-qp", "--scripts"]).arg(&packages.rpm))?;
    let count = rpm.matches(functions.trim_end()).count();
    ensure!(count == 3, "the .rpm's scripts are not those of the tree:\n{rpm}");
    for (name, text) in scripts::deb(units)? {
        let script = process::text(process::command("dpkg-deb").arg("--info").arg(&packages.deb).arg(name))?;
        ensure!(script == text, "the .deb's {name} is not that of the tree:\n{script}");
    }
    Ok(())
}

fn same(package: &str, expected: &Listing, found: &Listing) -> Result<()> {
    let mut differences = Vec::new();
    for name in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (wanted, there) = (expected.get(name), found.get(name));
        if wanted != there {
            differences.push(format!("  {name}: {wanted:?} was laid out, {there:?} is there"));
        }
    }
    if differences.is_empty() {
        Ok(())
    } else {
        bail!("{package} is not what was laid out:\n{}", differences.join("\n"))
    }
}

fn deb_listing(deb: &Path) -> Result<Listing> {
    let listing = process::text(process::command("dpkg-deb").arg("--contents").arg(deb))?;
    let scratch = tempfile::tempdir().context("creating a temporary directory")?;
    process::output(process::command("dpkg-deb").arg("--extract").arg(deb).arg(scratch.path()))?;
    let mut found = Listing::new();
    for (name, mode, is_roots) in tar_listing(&listing)? {
        let digest = digest(&scratch.path().join(&name))?;
        found.insert(name, Packed { mode, is_roots, digest });
    }
    Ok(found)
}

/// Name, mode, and whether it is root's, of lines as `-rw-r--r-- root/root 123 2026-01-01 00:00 ./usr/bin/enforcer`.
/// Directories are passed over. cargo-deb writes numbers only, and no names.
fn tar_listing(listing: &str) -> Result<Vec<(String, u32, bool)>> {
    let mut found = Vec::new();
    for line in listing.lines().filter(|line| !line.starts_with('d')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [permissions, owner, _, _, _, name] = words[..] else { bail!("not a line of a listing: {line}") };
        let mode = mode(permissions).with_context(|| format!("not a file's permissions: {line}"))?;
        let is_roots = matches!(owner, "root/root" | "0/0");
        found.push((name.trim_start_matches("./").to_owned(), mode, is_roots));
    }
    Ok(found)
}

/// `-rwxr-xr-x` as a number. Nothing special is expected, and would not be understood.
fn mode(text: &str) -> Option<u32> {
    let bits = text.strip_prefix('-').filter(|bits| bits.len() == 9)?;
    bits.chars().zip("rwxrwxrwx".chars()).try_fold(0, |mode, (bit, meaning)| match bit {
        '-' => Some(mode << 1),
        bit if bit == meaning => Some(mode << 1 | 1),
        _ => None,
    })
}

fn rpm_listing(rpm: &Path) -> Result<Listing> {
    let format = "[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILEDIGESTS}\\n]";
    let listing = process::text(process::command("rpm").args(["-qp", "--queryformat", format]).arg(rpm))?;
    let mut found = Listing::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, mode, owner, digest] = words[..] else { bail!("not a line of a listing: {line}") };
        let mode = u32::from_str_radix(mode, 8).with_context(|| format!("not a mode: {line}"))? & 0o7777;
        let packed = Packed { mode, is_roots: owner == "root/root", digest: digest.to_owned() };
        found.insert(name.trim_start_matches('/').to_owned(), packed);
    }
    Ok(found)
}

fn digest(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_read_from_headers() {
        let mut needs = Needs { libraries: BTreeSet::new(), glibc: (0, 0) };
        needs.read(
            "Dynamic Section:\n  NEEDED               libtss2-esys.so.0\n  NEEDED               libc.so.6\n\
             Version References:\n  required from libc.so.6:\n    0x09691a75 0x00 03 GLIBC_2.2.5\n\
             \x20   0x069691b4 0x00 05 GLIBC_2.34\n    0x069691b4 0x00 05 GLIBC_PRIVATE\n",
        );
        assert_eq!(needs.glibc, (2, 34));
        assert_eq!(needs.deb(), "libc6 (>= 2.34), libtss2-esys-3.0.2-0, systemd");
        assert!(needs.rpm().contains(&"libtss2-esys.so.0()(64bit)".to_owned()));
    }

    #[test]
    fn listings_are_read() {
        let found = tar_listing(
            "drwxr-xr-x root/root 0 2026-11-22 13:00 ./usr/\n\
             -rwxr-xr-x 0/0 9 2026-11-22 13:00 ./usr/bin/enforcer\n\
             -rw-r--r-- ann/ann 9 2026-11-22 13:00 ./x\n",
        );
        let expected = [("usr/bin/enforcer".to_owned(), 0o755, true), ("x".to_owned(), 0o644, false)];
        assert_eq!(found.unwrap(), expected);
        assert!(tar_listing("-rwsr-xr-x root/root 9 2026-11-22 13:00 ./usr/bin/su\n").is_err());
    }

    #[test]
    fn every_difference_counts() {
        let packed = Packed { mode: 0o755, is_roots: true, digest: "00".to_owned() };
        let listing = |packed: &Packed| Listing::from([("usr/bin/enforcer".to_owned(), packed.clone())]);
        same("x", &listing(&packed), &listing(&packed)).unwrap();
        for other in [
            Packed { mode: 0o644, ..packed.clone() },
            Packed { is_roots: false, ..packed.clone() },
            Packed { digest: "01".to_owned(), ..packed.clone() },
        ] {
            assert!(same("x", &listing(&packed), &listing(&other)).is_err(), "{other:?}");
        }
        assert!(same("x", &listing(&packed), &Listing::new()).is_err());
        assert!(same("x", &Listing::new(), &listing(&packed)).is_err());
    }
}
