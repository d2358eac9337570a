//! That the daemon's loop goes round, for those who have no watchdog of systemd's: the time of a file in its directory.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

const FILE: &str = "alive";

/// A daemon that was silent for longer does not do its work: as the unit's `WatchdogSec=`.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The daemon's end.
#[derive(Debug)]
pub struct Heartbeat(File);

impl Heartbeat {
    /// Begins.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(runtime: &Path) -> io::Result<Self> {
        let heartbeat = Self(File::create(runtime.join(FILE))?);
        heartbeat.beat()?;
        Ok(heartbeat)
    }

    /// Once a round.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn beat(&self) -> io::Result<()> {
        self.0.set_modified(SystemTime::now())
    }
}

/// How long ago the last beat was; `None` if there never was one.
#[must_use]
pub fn age(runtime: &Path) -> Option<Duration> {
    let last = fs::metadata(runtime.join(FILE)).and_then(|metadata| metadata.modified()).ok()?;
    // A clock that was set back is no reason to kill anybody.
    Some(SystemTime::now().duration_since(last).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed_and_ends_with_the_next_beat() {
        let runtime = tempfile::tempdir().unwrap();
        assert_eq!(age(runtime.path()), None);
        let heartbeat = Heartbeat::start(runtime.path()).unwrap();
        assert!(age(runtime.path()).unwrap() < LIMIT);
        heartbeat.0.set_modified(SystemTime::now() - LIMIT * 2).unwrap();
        assert!(age(runtime.path()).unwrap() > LIMIT);
        heartbeat.beat().unwrap();
        assert!(age(runtime.path()).unwrap() < LIMIT);
    }
}
