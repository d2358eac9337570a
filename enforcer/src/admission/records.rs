//! What a machine notes for itself: of this boot, under `/run`, and of the last admission, under `/var/lib`.
//!
//! None of it is trusted to allow anything: it only makes refusals stricter or their texts better. The one exception is
//! the version file of machines without a TPM, which is why those are said to be weaker.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Refusal, Report};
use crate::{
    bundle::{approval::SlotRecord, statement::Seal},
    file,
    measured::{
        firmware::{FirmwareLog, difference::explain_difference},
        pcr::{PcrIndex, PcrValues},
    },
};

/// Where records lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// Survives reboots.
    pub state: PathBuf,
    /// Does not.
    pub runtime: PathBuf,
    /// The firmware's event log, as the kernel shows it.
    pub firmware_log: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            state: "/var/lib/enforcer".into(),
            runtime: crate::session::RUNTIME_DIR.into(),
            firmware_log: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
        }
    }
}

impl Places {
    /// What was measured since boot.
    #[must_use]
    pub fn measurements(&self) -> PathBuf {
        self.runtime.join("measurements.log")
    }

    /// The firmware's log at the last admission.
    fn admitted_firmware_log(&self) -> PathBuf {
        self.state.join("admitted-firmware.log")
    }

    fn boot(&self) -> PathBuf {
        self.runtime.join("boot.json")
    }

    fn standing(&self) -> PathBuf {
        self.runtime.join("standing.json")
    }

    fn alarm(&self) -> PathBuf {
        self.runtime.join("alarm.json")
    }

    fn highest(&self) -> PathBuf {
        self.state.join("highest.json")
    }
}

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Reading.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The check itself ended in a panic.
    #[error("the platform could not be checked: {0}")]
    Check(String),
    /// Writing.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The TPM's count of resets, as this boot first saw it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Boot {
    reset_count: u32,
}

/// The highest version that was admitted without a TPM.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Highest {
    version: u64,
    statement: String,
}

/// What was admitted and is in force: what later checks compare the platform with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// [`Trust::word`](crate::bundle::verify::Trust::word).
    pub trust: String,
    /// The policy.
    pub policy: String,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its statement.
    pub statement: String,
    /// The platform state's label.
    pub state: Option<String>,
    /// The values it is bound to. Empty without a TPM.
    pub bound: PcrValues,
    /// Until when, in seconds since 1970.
    pub not_after: Option<u64>,
    /// What it says about the seal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
}

impl Standing {
    /// Of what was admitted just now.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let grounds = report.trust.grounds();
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            trust: report.trust.word().into(),
            policy: grounds.map(|grounds| grounds.policy.clone()).unwrap_or_default(),
            version: report.record.version,
            statement: hex::encode(report.record.statement),
            state: grounds.and_then(|grounds| grounds.binding.clone()),
            bound: report.bound.clone(),
            not_after: report.not_after.map(seconds),
            seal: report.seal,
        }
    }

    /// Whether it has expired.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        let end = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        self.not_after.is_some_and(|seconds| now > end(seconds))
    }

    /// Whether it is for an emergency.
    #[must_use]
    pub fn is_break_glass(&self) -> bool {
        self.trust == "break-glass"
    }
}

/// Something that is wrong with the platform since what is in force was admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// A word for programs.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What is in force on signatures, if anything is.
///
/// # Errors
/// [`RecordError`].
pub fn standing(places: &Places) -> Result<Option<Standing>, RecordError> {
    read(&places.standing())
}

/// Notes what is in force now; nothing, if that was not signed. Alarms about what was before are over.
///
/// # Errors
/// [`RecordError`].
pub fn note_standing(places: &Places, report: Option<&Report>) -> Result<(), RecordError> {
    match report {
        Some(report) => write(&places.standing(), &Standing::of(report))?,
        None => remove(&places.standing())?,
    }
    remove(&places.alarm())
}

/// The alarm that stands, if one does.
///
/// # Errors
/// [`RecordError`].
pub fn alarm(places: &Places) -> Result<Option<Alarm>, RecordError> {
    read(&places.alarm())
}

/// Notes an alarm, or that there is none any more.
///
/// # Errors
/// [`RecordError`].
pub fn note_alarm(places: &Places, alarm: Option<&Alarm>) -> Result<(), RecordError> {
    match alarm {
        Some(alarm) => write(&places.alarm(), alarm),
        None => remove(&places.alarm()),
    }
}

fn remove(path: &Path) -> Result<(), RecordError> {
    file::remove(path).map_err(|source| RecordError::Write { path: path.to_owned(), source })
}

/// Refuses when the TPM was reset since the first admission of this boot.
pub(super) fn refuse_reset(places: &Places, found: u32) -> Result<(), Refusal> {
    match read::<Boot>(&places.boot())? {
        Some(boot) if boot.reset_count != found => Err(Refusal::Reset { expected: boot.reset_count, found }),
        _ => Ok(()),
    }
}

/// Notes the first admission of this boot, and how the machine booted.
pub(super) fn note_boot(places: &Places, reset_count: u32) -> Result<(), RecordError> {
    if read::<Boot>(&places.boot())?.is_none() {
        write(&places.boot(), &Boot { reset_count })?;
    }
    // Only for the text of later refusals, so a machine without this log is as well off.
    if let Ok(log) = fs::read(&places.firmware_log) {
        put(&places.admitted_firmware_log(), &log)?;
    }
    Ok(())
}

/// The record in force on a machine without a TPM.
pub(super) fn highest(places: &Places) -> Result<SlotRecord, RecordError> {
    let path = places.highest();
    let Some(highest) = read::<Highest>(&path)? else { return Ok(SlotRecord::EMPTY) };
    let mut record = SlotRecord { version: highest.version, ..SlotRecord::EMPTY };
    hex::decode_to_slice(&highest.statement, &mut record.statement)
        .map_err(|error| RecordError::Read { path, reason: error.to_string() })?;
    Ok(record)
}

pub(super) fn note_highest(places: &Places, record: SlotRecord) -> Result<(), RecordError> {
    let highest = Highest { version: record.version, statement: hex::encode(record.statement) };
    write(&places.highest(), &highest)
}

/// The first boot component that differs from the boot of the last admission, if both logs are there and tell.
pub(super) fn changed_component(places: &Places, pcrs: impl Iterator<Item = PcrIndex>) -> Option<String> {
    let (before, now) =
        (fs::read(places.admitted_firmware_log()).ok()?, fs::read(&places.firmware_log).ok()?);
    let (before, now) = (FirmwareLog::parse(&before).ok()?, FirmwareLog::parse(&now).ok()?);
    pcrs.filter_map(|pcr| explain_difference(&before, &now, pcr)).map(|found| found.to_string()).next()
}

/// `None` if it is not there. What is there and cannot be read refuses: it may have been spoilt to be overlooked.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let failed = |reason: String| RecordError::Read { path: path.to_owned(), reason };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| RecordError::Write { path: path.to_owned(), source: error.into() })?;
    put(path, &bytes)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)
        .and_then(|()| file::replace(path, bytes))
        .map_err(|source| RecordError::Write { path: path.to_owned(), source })
}
