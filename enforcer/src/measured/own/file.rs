//! The log's file: appended under a lock, on disk before anyone relies on it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{MAX_BYTES, OwnLogError, Record, Records, parse};

/// The log of this machine.
#[derive(Clone, Debug)]
pub struct OwnLog {
    path: PathBuf,
}

/// A record that is on disk, and the lock under which it was written. Keep it until the PCR is extended: otherwise two
/// writers could extend in another order than they logged. Whoever reads or writes the log waits meanwhile, this very
/// thread included.
#[must_use = "extend the PCR, then drop this: the lock keeps others from extending in between"]
#[derive(Debug)]
pub struct Logged {
    /// Closing it gives the lock back.
    _file: File,
}

impl OwnLog {
    /// Opens the log, or begins one, readable by everyone and writable by its owner: it holds no secrets.
    ///
    /// # Errors
    /// [`OwnLogError`], also when what is there is no log of ours.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OwnLogError> {
        let log = Self { path: path.into() };
        log.locked()?;
        Ok(log)
    }

    /// Everything that was written whole.
    ///
    /// # Errors
    /// [`OwnLogError`].
    pub fn records(&self) -> Result<Vec<Record>, OwnLogError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NOFOLLOW).open(&self.path);
        let mut file = file.map_err(self.failed("open"))?;
        file.lock_shared().map_err(self.failed("lock"))?;
        self.read(&mut file).map(|read| read.records)
    }

    /// Appends a record and waits until it is on disk. The PCR must be extended next, before what is returned is dropped.
    /// A record that a crash had torn apart is cut off first.
    ///
    /// # Errors
    /// [`OwnLogError`]; then nothing must be extended.
    pub fn append(&self, record: &Record) -> Result<Logged, OwnLogError> {
        let (mut file, read) = self.locked()?;
        let bytes = record.to_bytes();
        let whole = u64::try_from(read.whole_bytes).map_err(|_| OwnLogError::TooLong)?;
        match parse(&bytes) {
            Ok(back) if back.records == std::slice::from_ref(record) => {}
            Ok(_) => return Err(OwnLogError::Record("it would not be read back as it is".to_owned())),
            Err(error) => return Err(OwnLogError::Record(error.to_string())),
        }
        if read.whole_bytes.saturating_add(bytes.len()) > MAX_BYTES {
            return Err(OwnLogError::TooLong);
        }
        let written = file
            .set_len(whole)
            .and_then(|()| file.seek(SeekFrom::Start(whole)).map(drop))
            .and_then(|()| file.write_all(&bytes))
            .and_then(|()| file.sync_all());
        written.map_err(self.failed("write"))?;
        Ok(Logged { _file: file })
    }

    /// The file, locked against other writers, and what is in it.
    fn locked(&self) -> Result<(File, Records), OwnLogError> {
        let mut file = self.create().map_err(self.failed("open"))?;
        file.lock().map_err(self.failed("lock"))?;
        let read = self.read(&mut file)?;
        Ok((file, read))
    }

    fn read(&self, file: &mut File) -> Result<Records, OwnLogError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(self.failed("read"))?;
        parse(&bytes)
    }

    fn create(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW);
        match options.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let file = options.create(true).open(&self.path)?;
        // Or the file is on disk and its name is not.
        File::open(directory)?.sync_all()?;
        Ok(file)
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> OwnLogError {
        let path = self.path.clone();
        move |source| OwnLogError::File { what, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::{own::replay, pcr::PcrIndex};

    const PCR: PcrIndex = PcrIndex::SYSTEM;

    fn append(log: &OwnLog, text: &str) {
        drop(log.append(&Record::new(PCR, text)).unwrap());
    }

    fn texts(log: &OwnLog) -> Vec<String> {
        log.records().unwrap().iter().map(|record| record.text().to_owned()).collect()
    }

    #[test]
    fn records_survive_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/measure.log");
        let log = OwnLog::open(&path).unwrap();
        assert!(texts(&log).is_empty());
        append(&log, "one");
        let remark = Record::new(PCR, "two").with_remark("bootId", "b").with_remark("string", "evil");
        drop(log.append(&remark).unwrap());
        assert_eq!(texts(&OwnLog::open(&path).unwrap()), ["one", "two"]);
        assert_eq!(log.records().unwrap()[1], remark);
    }

    #[test]
    fn a_torn_record_is_repaired_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("measure.log");
        let log = OwnLog::open(&path).unwrap();
        append(&log, "one");
        let whole = std::fs::read(&path).unwrap();
        let torn = Record::new(PCR, "a long text that is torn, longer than what comes instead").to_bytes();
        for len in [1, torn.len() / 2, torn.len() - 1] {
            std::fs::write(&path, [&whole[..], &torn[..len]].concat()).unwrap();
            assert_eq!(texts(&log), ["one"]);
            append(&log, "2");
            assert_eq!(texts(&log), ["one", "2"]);
            assert_eq!(
                std::fs::read(&path).unwrap(),
                [whole.clone(), Record::new(PCR, "2").to_bytes()].concat()
            );
        }
    }

    #[test]
    fn a_broken_log_is_neither_opened_nor_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("measure.log");
        let log = OwnLog::open(&path).unwrap();
        append(&log, "one");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(OwnLog::open(&path), Err(OwnLogError::Broken { offset: 0, .. })));
        assert!(log.append(&Record::new(PCR, "two")).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(OwnLog::open(&link), Err(OwnLogError::File { what: "open", .. })));
    }

    #[test]
    fn the_lock_is_held_until_the_pcr_is_extended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("measure.log");
        let log = OwnLog::open(&path).unwrap();
        let logged = log.append(&Record::new(PCR, "one")).unwrap();
        let other = File::open(&path).unwrap();
        assert!(matches!(other.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
        drop(logged);
        other.try_lock().unwrap();
    }

    #[test]
    fn writers_at_the_same_time_leave_whole_records_in_the_order_of_their_extensions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("measure.log");
        let register = std::sync::Mutex::new(PCR.start());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (path, register) = (&path, &register);
                scope.spawn(move || {
                    let log = OwnLog::open(path).unwrap();
                    for number in 0..10 {
                        let record = Record::new(PCR, format!("{writer}:{number}"));
                        let logged = log.append(&record).unwrap();
                        let mut value = register.lock().unwrap();
                        *value = crate::measured::pcr::extend(*value, record.digest());
                        drop(value);
                        drop(logged);
                    }
                });
            }
        });
        let records = OwnLog::open(&path).unwrap().records().unwrap();
        assert_eq!(records.len(), 40);
        assert_eq!(replay(&records, PCR).matches(*register.lock().unwrap()), Some(40));
    }
}
