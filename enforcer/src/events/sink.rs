//! Where records go: JSON lines to standard output and to a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::record::Record;

/// Takes records.
pub trait Sink: Send {
    /// Takes one.
    ///
    /// # Errors
    /// From the file.
    fn put(&mut self, record: &Record) -> io::Result<()>;
    /// Makes everything taken visible.
    ///
    /// # Errors
    /// From the file.
    fn flush(&mut self) -> io::Result<()>;
}

/// JSON lines into anything that can be written to.
pub struct JsonLines<W: Write> {
    writer: BufWriter<W>,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer: BufWriter::new(writer) }
    }
}

impl<W: Write + Send> Sink for JsonLines<W> {
    fn put(&mut self, record: &Record) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, record)?;
        self.writer.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// JSON lines into a log file, which may be moved away under us (`logrotate`).
pub struct LogFile {
    path: PathBuf,
    lines: JsonLines<File>,
    inode: u64,
}

impl LogFile {
    /// Opens it for appending, readable by its owner only: paths and commands can be secrets.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let inode = inode_of(&file.metadata()?);
        Ok(Self { path: path.to_owned(), lines: JsonLines::new(file), inode })
    }
}

impl Sink for LogFile {
    fn put(&mut self, record: &Record) -> io::Result<()> {
        self.lines.put(record)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()?;
        let moved = std::fs::metadata(&self.path).map_or(true, |metadata| inode_of(&metadata) != self.inode);
        if moved {
            *self = Self::open(&self.path)?;
        }
        Ok(())
    }
}

fn inode_of(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::record::{LostPlace, LostRecord, SCHEMA_VERSION};

    fn lost(count: u64) -> Record {
        Record::Lost(LostRecord { schema_version: SCHEMA_VERSION, time: String::new(), place: LostPlace::Ring, count })
    }

    #[test]
    fn a_log_that_was_moved_away_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log/events.jsonl");
        let mut log = LogFile::open(&path).unwrap();
        log.put(&lost(1)).unwrap();
        log.flush().unwrap();
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        log.put(&lost(2)).unwrap();
        log.flush().unwrap();
        log.put(&lost(3)).unwrap();
        log.flush().unwrap();
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&directory.path().join("old")), lines(&path)), (2, 1));
    }
}
