//! A build of `enforcer` that takes its object for another one, as a new version does.
//!
//! The kernel gets the same programs from it. What differs is the digest that the build noted of its object, which is what a
//! daemon goes by when it finds programs running.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes such a build of this program, whose own digest is given; returns the digest of the other one.
///
/// # Panics
/// When the program does not hold its digest.
#[must_use]
pub fn write(program: &Path, digest: &str, to: &Path) -> String {
    let other: String = digest.chars().rev().collect();
    assert_ne!(other, digest, "a digest that reads the same backwards");
    let mut bytes = fs::read(program).expect("reading the program");
    let first = digest.as_bytes()[0];
    let mut found = Vec::new();
    let mut from = 0;
    // A look at one byte first: an emulated processor compares slowly.
    while let Some(next) = bytes[from..].iter().position(|byte| *byte == first) {
        from += next;
        if bytes[from..].starts_with(digest.as_bytes()) {
            found.push(from);
        }
        from += 1;
    }
    assert!(!found.is_empty(), "{} does not hold the digest {digest}", program.display());
    for at in found {
        bytes[at..at + digest.len()].copy_from_slice(other.as_bytes());
    }
    fs::write(to, bytes).expect("writing the other build");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("making it a program");
    other
}

#[cfg(test)]
mod tests {
    use super::{fs, write};

    #[test]
    fn the_other_build_differs_in_its_digest_alone() {
        let directory = std::env::temp_dir().join(format!("other-build-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let [program, other] = ["program", "other"].map(|name| directory.join(name));
        fs::write(&program, "0 00123456789abcdee 0123456789abcde").unwrap();
        assert_eq!(write(&program, "0123456789abcdee", &other), "eedcba9876543210");
        assert_eq!(fs::read_to_string(&other).unwrap(), "0 0eedcba9876543210 0123456789abcde");
        fs::remove_dir_all(&directory).unwrap();
    }
}
