//! The two text formats of a Debian archive: `Release` (checksums of the indexes) and `Packages`.

use serde::{Deserialize, Serialize};

/// One package, as far as needed to fetch it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Package {
    /// Package name.
    pub(crate) name: String,
    /// Debian version.
    pub(crate) version: String,
    /// Path below the mirror's root.
    pub(crate) path: String,
    /// Checksum of the `.deb`, hexadecimal.
    pub(crate) sha256: String,
}

/// The packages of an index whose name `wanted` accepts. Stanzas that lack a field are skipped.
pub(crate) fn packages(index: &str, wanted: impl Fn(&str) -> bool) -> Vec<Package> {
    index.split("\n\n").filter_map(|stanza| package(stanza, &wanted)).collect()
}

fn package(stanza: &str, wanted: impl Fn(&str) -> bool) -> Option<Package> {
    let name = field(stanza, "Package")?;
    // Decided first: an index has 68,000 stanzas and one or two are wanted.
    wanted(name).then_some(())?;
    Some(Package {
        name: name.to_owned(),
        version: field(stanza, "Version")?.to_owned(),
        path: field(stanza, "Filename")?.to_owned(),
        sha256: field(stanza, "SHA256")?.to_owned(),
    })
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

/// The SHA-256 of the file `path` according to a `Release` file.
pub(crate) fn release_sha256<'a>(release: &'a str, path: &str) -> Option<&'a str> {
    let section = release.lines().skip_while(|line| *line != "SHA256:").skip(1);
    section.take_while(|line| line.starts_with(' ')).find_map(|line| {
        let mut words = line.split_whitespace();
        let (sha256, _size, name) = (words.next()?, words.next()?, words.next()?);
        (name == path).then_some(sha256)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "Package: linux-image-a\nVersion: 6.1-1\nDescription: Package: fake\n\
        Filename: pool/a.deb\nSHA256: aa\n\nPackage: other\nVersion: 1\nFilename: pool/o.deb\nSHA256: bb\n\n\
        Package: linux-image-b\nVersion: 6.2-1\nFilename: pool/b.deb\n";

    #[test]
    fn only_wanted_and_complete_stanzas_count() {
        let found = packages(INDEX, |name| name.starts_with("linux-image-"));
        let expected = Package {
            name: "linux-image-a".into(),
            version: "6.1-1".into(),
            path: "pool/a.deb".into(),
            sha256: "aa".into(),
        };
        assert_eq!(found, [expected], "linux-image-b has no checksum");
    }

    #[test]
    fn release_checksums_come_from_the_right_section() {
        let release = "Suite: x\nMD5Sum:\n 11 5 main/Packages.xz\nSHA256:\n 22 5 main/Packages\n 33 5 main/Packages.xz\nOther: y\n 44 5 late\n";
        assert_eq!(release_sha256(release, "main/Packages.xz"), Some("33"));
        assert_eq!(release_sha256(release, "late"), None);
    }
}
