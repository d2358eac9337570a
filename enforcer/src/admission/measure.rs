//! What was admitted, for those who were not there: logged, then extended into a PCR.

use std::fmt;

use super::{Places, Platform, Refusal};
use crate::{
    bundle::{anchors::Anchors, approval::Digest, statement::Seal},
    measured::{
        own::{OwnLog, OwnLogError, Record, Replay, replay_from},
        pcr::{PcrIndex, PcrValue},
    },
};

/// Name of the remark that says what the PCR held before a record, where others had measured into it.
pub const START_VALUE: &str = "startValue";

/// One thing that is measured. Its text is what the PCR is extended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measured {
    /// What the machine trusts.
    Anchors(Digest),
    /// What enforces.
    Object(Digest),
    /// What is enforced.
    Policy {
        /// Which.
        policy: String,
        /// Its version.
        version: u64,
        /// SHA-256 of its statement.
        statement: Digest,
        /// Whether it is for emergencies.
        break_glass: bool,
    },
    /// Nothing is allowed, for this reason.
    DenyAll(&'static str),
    /// The machine is sealed, or no longer is, by what this statement says: its SHA-256.
    Seal(Seal, Digest),
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anchors(digest) => write!(f, "anchors:{}", hex::encode(digest)),
            Self::Object(digest) => write!(f, "bpf:{}", hex::encode(digest)),
            Self::Policy { policy, version, statement, break_glass } => {
                let kind = if *break_glass { "break-glass" } else { "policy" };
                write!(f, "{kind}:{policy}:{version}:{}", hex::encode(statement))
            }
            Self::DenyAll(reason) => write!(f, "deny-all:{reason}"),
            Self::Seal(Seal::On, statement) => write!(f, "seal:on:{}", hex::encode(statement)),
            Self::Seal(Seal::Off, statement) => write!(f, "seal:off:{}", hex::encode(statement)),
        }
    }
}

/// What kind of thing a text is about. Of each kind the last record counts: what is in force is one kind.
pub fn kind(text: &str) -> &str {
    match text.split(':').next().unwrap_or_default() {
        "policy" | "break-glass" | "deny-all" => "in-force",
        other => other,
    }
}

/// The log and its PCR.
#[derive(Debug)]
pub struct Measurements {
    log: OwnLog,
    pcr: PcrIndex,
    path: std::path::PathBuf,
}

impl Measurements {
    /// Opens the log of this boot.
    ///
    /// # Errors
    /// [`Refusal::Log`].
    pub fn open(places: &Places, anchors: &Anchors) -> Result<Self, Refusal> {
        let path = places.measurements();
        let log = OwnLog::open(path.clone()).map_err(|error| failed(&path, &error))?;
        Ok(Self { log, pcr: anchors.tpm.measure_pcr, path })
    }

    /// The PCR.
    #[must_use]
    pub const fn pcr(&self) -> PcrIndex {
        self.pcr
    }

    /// The whole log as it is.
    ///
    /// # Errors
    /// [`Refusal::Log`].
    pub fn bytes(&self) -> Result<Vec<u8>, Refusal> {
        std::fs::read(&self.path)
            .map_err(|error| Refusal::Log { path: self.path.clone(), reason: error.to_string() })
    }

    /// Measures what is not what was measured last, and tells what that was. `current` is what a quote said the PCR holds.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn measure<P: Platform>(
        &self,
        tpm: &P,
        current: Option<PcrValue>,
        wanted: &[Measured],
    ) -> Result<Vec<String>, Refusal> {
        let current = current.unwrap_or_else(|| self.pcr.start());
        let records = self.log.records().map_err(|error| self.failed(&error))?;
        let (mut value, explained) = self.catch_up(tpm, &records, current)?;
        let mut measured = Vec::new();
        for text in wanted.iter().map(ToString::to_string) {
            let last = records.iter().rev().find(|record| kind(record.text()) == kind(&text));
            if explained && last.is_some_and(|record| record.text() == text) {
                continue;
            }
            let mut record = Record::new(self.pcr, text.clone());
            if measured.is_empty() && (!explained || (records.is_empty() && value != self.pcr.start())) {
                record = record.with_remark(START_VALUE, value.to_string());
            }
            value = self.log_then_extend(tpm, &record, value)?;
            measured.push(text);
        }
        Ok(measured)
    }

    /// Extends what an earlier attempt logged and did not extend any more. Also tells whether the log explains the value:
    /// if not, somebody else extended the PCR.
    fn catch_up<P: Platform>(
        &self,
        tpm: &P,
        records: &[Record],
        current: PcrValue,
    ) -> Result<(PcrValue, bool), Refusal> {
        let replay = replayed(records, self.pcr);
        let Some(pending) = replay.pending(current) else { return Ok((current, records.is_empty())) };
        for digest in pending {
            tpm.extend(self.pcr, &digest.0)?;
        }
        Ok((replay.last(), true))
    }

    fn log_then_extend<P: Platform>(
        &self,
        tpm: &P,
        record: &Record,
        before: PcrValue,
    ) -> Result<PcrValue, Refusal> {
        let logged = self.log.append(record).map_err(|error| self.failed(&error))?;
        tpm.extend(self.pcr, &record.digest().0)?;
        drop(logged);
        Ok(crate::measured::pcr::extend(before, record.digest()))
    }

    fn failed(&self, error: &OwnLogError) -> Refusal {
        failed(&self.path, error)
    }
}

/// Replays the records since others last measured into the PCR, as far as we know of it.
#[must_use]
pub fn replayed(records: &[Record], pcr: PcrIndex) -> Replay {
    let start = |record: &Record| record.remarks().get(START_VALUE)?.as_str()?.parse().ok();
    let ours: Vec<&Record> = records.iter().filter(|record| record.pcr() == pcr).collect();
    let from = ours.iter().rposition(|record| start(record).is_some());
    let first =
        from.and_then(|at| ours.get(at)).and_then(|record| start(record)).unwrap_or_else(|| pcr.start());
    let counted: Vec<Record> = ours.into_iter().skip(from.unwrap_or(0)).cloned().collect();
    replay_from(first, &counted, pcr)
}

fn failed(path: &std::path::Path, error: &OwnLogError) -> Refusal {
    Refusal::Log { path: path.to_owned(), reason: error.to_string() }
}
