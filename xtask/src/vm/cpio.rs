//! Writes the archive format that the kernel unpacks as initramfs ("newc").
//!
//! The kernel accepts several archives one after the other, later files replacing earlier ones, so a cached base
//! and a fresh payload are simply concatenated.

use std::collections::BTreeSet;
use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive under construction. Parent directories appear by themselves.
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 0, directories: BTreeSet::new() }
    }

    /// A directory. Paths are absolute, as the guest will see them.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        if path == "/" || path.is_empty() || self.directories.contains(path) {
            return Ok(());
        }
        self.parents_of(path)?;
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY | 0o755, (0, 0), b"")
    }

    /// A regular file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.parents_of(path)?;
        self.entry(path, FILE | mode, (0, 0), data)
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parents_of(path)?;
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes())
    }

    /// A character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.parents_of(path)?;
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), b"")
    }

    /// Writes the end mark and hands the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), b"")?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents_of(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        let too_big =
            |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path} does not fit into cpio"));
        let size = u32::try_from(data.len()).map_err(too_big)?;
        // The archive knows no root directory: names are relative to it.
        let name = path.trim_start_matches('/');
        let name_size = u32::try_from(name.len() + 1).map_err(too_big)?;
        self.inode += 1;
        let links = 1;
        // inode, mode, uid, gid, links, mtime, size, device of the archive, device of the file, name size, checksum
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_newc() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/a/b", 0o755, b"hello").unwrap();
        archive.link("/a/c", "b").unwrap();
        archive.device("/dev/console", 5, 1).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(names(&bytes), ["a", "a/b", "a/c", "dev", "dev/console", "TRAILER!!!"]);
    }

    /// Walks headers as the kernel does: by their sizes.
    fn names(mut bytes: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                let digits = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            names.push(String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap());
            let data = (110 + name_size).next_multiple_of(4);
            bytes = &bytes[data + size.next_multiple_of(4)..];
        }
        names
    }
}
