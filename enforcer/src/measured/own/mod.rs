//! Our own measurement log: what we extended into a PCR, so that others can tell what its value means.
//!
//! The format is that of systemd's `tpm2-measure.log`: a JSON text sequence (RFC 7464) of records like the TCG's canonical
//! event log. What is measured is the SHA-256 of exactly `content.string`, which [`parse`] checks.
//!
//! A record is written before its PCR is extended, so a crash leaves a record too many, never one too few:
//! [`Replay::matches`] tells how many records the PCR's value covers, and [`Replay::pending`] what has to be extended to
//! make up for the rest, which must happen before anything new is logged.

mod file;
mod record;

pub use file::{Logged, OwnLog};
pub use record::{CONTENT_TYPE, Content, Record, RecordDigest};

use std::{io, path::PathBuf};

use super::{
    pcr::{PcrIndex, PcrValue, extend},
    sequence::{END, NO_START, START, texts},
};

/// Longer logs are refused: each record is a decision of ours, of which there are a few a day.
pub const MAX_BYTES: usize = 16 << 20;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnLogError {
    /// A record is broken.
    #[error(
        "the measurement log is broken at byte {offset}: {why}. It no longer explains the PCR: keep the file as evidence, \
         and restart the machine to begin a new one"
    )]
    Broken {
        /// Where.
        offset: usize,
        /// What about it.
        why: String,
    },
    /// More than we ever write.
    #[error("the measurement log has more than {MAX_BYTES} bytes, which we never write")]
    TooLong,
    /// The record to append would not be read back.
    #[error("a record cannot be logged: {0}")]
    Record(String),
    /// The file.
    #[error("cannot {what} the measurement log {}: {source}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Everything that was written whole.
    pub records: Vec<Record>,
    /// How many bytes they take. What follows is a record that a crash tore apart; nothing was extended for it.
    pub whole_bytes: usize,
}

/// Reads a log. A last record without its end is left out; anything else that is no record of ours is an error.
///
/// # Errors
/// [`OwnLogError::Broken`] and [`OwnLogError::TooLong`].
pub fn parse(bytes: &[u8]) -> Result<Records, OwnLogError> {
    if bytes.len() > MAX_BYTES {
        return Err(OwnLogError::TooLong);
    }
    let whole_bytes = bytes.iter().rposition(|byte| *byte == END).map_or(0, |last| last + 1);
    let (whole, torn) = bytes.split_at(whole_bytes);
    let broken = |offset, why: &str| OwnLogError::Broken { offset, why: why.to_owned() };
    // A record's front; or nothing but zeros, where the file had grown and its content was not yet on disk.
    let front =
        torn.first().is_none_or(|first| *first == START) && !torn.iter().skip(1).any(|byte| *byte == START);
    if !front && torn.iter().any(|byte| *byte != 0) {
        return Err(broken(whole_bytes, "its end is no record of ours"));
    }
    let mut records = Vec::new();
    for (offset, text) in texts(whole) {
        let text = text.ok_or_else(|| broken(offset, NO_START))?;
        records.push(Record::parse(text).map_err(|why| OwnLogError::Broken { offset, why })?);
    }
    Ok(Records { records, whole_bytes })
}

/// The values that a PCR may have: the one before our first record, and the one after each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    digests: Vec<PcrValue>,
    values: Vec<PcrValue>,
}

/// Replays the records of one PCR, which held nothing before.
#[must_use]
pub fn replay(records: &[Record], pcr: PcrIndex) -> Replay {
    replay_from(pcr.start(), records, pcr)
}

/// Replays the records of one PCR into which others measured before us, up to this value.
#[must_use]
pub fn replay_from(start: PcrValue, records: &[Record], pcr: PcrIndex) -> Replay {
    let ours = records.iter().filter(|record| record.pcr() == pcr);
    let mut replay = Replay { digests: Vec::new(), values: vec![start] };
    let mut value = start;
    for record in ours {
        value = extend(value, record.digest());
        replay.digests.push(record.digest());
        replay.values.push(value);
    }
    replay
}

impl Replay {
    /// All values, the one without any record first.
    #[must_use]
    pub fn values(&self) -> &[PcrValue] {
        &self.values
    }

    /// The value once every record is extended.
    #[must_use]
    pub fn last(&self) -> PcrValue {
        // There always is the one before the first record.
        self.values.last().copied().unwrap_or(PcrValue([0; 32]))
    }

    /// How many records, from the first, make this value. `None`: the log does not explain it.
    #[must_use]
    pub fn matches(&self, value: PcrValue) -> Option<usize> {
        self.values.iter().position(|candidate| *candidate == value)
    }

    /// What must still be extended, in order, so that a PCR with this value has all records. `None`: the log does not
    /// explain the value.
    #[must_use]
    pub fn pending(&self, value: PcrValue) -> Option<&[PcrValue]> {
        self.digests.get(self.matches(value)?..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PCR: PcrIndex = PcrIndex::SYSTEM;

    fn record(text: &str) -> Record {
        Record::new(PCR, text)
    }

    fn log(texts: &[&str]) -> Vec<u8> {
        texts.iter().flat_map(|text| record(text).to_bytes()).collect()
    }

    #[test]
    fn a_log_of_two_records() {
        let bytes = log(&["policy:web:1", "bpf:\n\u{1e}\"x"]);
        assert_eq!(
            String::from_utf8_lossy(&bytes).lines().next().unwrap(),
            "\u{1e}{\"pcr\":15,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\
             \"9f79b1fb7289ebfc51955cdfe90da2f10b14eb6e0cb72d3157145d363afefb42\"}],\"content_type\":\"enforcer\",\
             \"content\":{\"string\":\"policy:web:1\"}}"
        );
        let parsed = parse(&bytes).unwrap();
        assert_eq!(parsed.records, [record("policy:web:1"), record("bpf:\n\u{1e}\"x")]);
        assert_eq!(parsed.whole_bytes, bytes.len());
        assert_eq!(parse(b"").unwrap(), Records::default());
    }

    #[test]
    fn a_torn_end_is_left_out_wherever_it_is_torn() {
        let (whole, torn) = (log(&["one"]), log(&["two"]));
        for len in 0..torn.len() {
            let parsed = parse(&[&whole[..], &torn[..len]].concat()).unwrap();
            assert_eq!(
                (parsed.records.len(), parsed.whole_bytes),
                (1, whole.len()),
                "torn after {len} bytes"
            );
        }
        assert_eq!(parse(&[&whole[..], &[0; 100]].concat()).unwrap().records.len(), 1);
    }

    #[test]
    fn anything_else_is_broken_and_says_where() {
        let whole = log(&["one"]);
        let edit =
            |from: &str, to: &str| String::from_utf8(whole.clone()).unwrap().replace(from, to).into_bytes();
        let table = [
            (edit("\"one\"", "\"two\""), 0, "does not hash"),
            (edit("\"pcr\":15", "\"pcr\":24"), 0, "is no PCR"),
            (edit("enforcer", "systemd"), 0, "content type `systemd`"),
            (edit("sha256", "sha384"), 0, "SHA-256"),
            (edit("\"pcr\":15", "\"pcr\":15,\"recnum\":1"), 0, "recnum"),
            (edit("\u{1e}", ""), 0, "does not start here"),
            ([&whole[..], b"{}\n"].concat(), whole.len(), "does not start here"),
            ([&whole[..], b"\x1e{}\n", &whole].concat(), whole.len(), "missing field"),
            ([&whole[..], b"garbage"].concat(), whole.len(), "its end is no record"),
            ([&whole[..], b"\x1e{\x1e"].concat(), whole.len(), "its end is no record"),
            ([&whole[..whole.len() - 5], &whole].concat(), 0, ""),
        ];
        for (bytes, at, why) in table {
            match parse(&bytes) {
                Err(OwnLogError::Broken { offset, why: found }) => {
                    assert_eq!(offset, at, "{found}");
                    assert!(found.contains(why), "{found}");
                }
                other => panic!("{} gave {other:?}", bytes.escape_ascii()),
            }
        }
        assert!(matches!(parse(&vec![0; MAX_BYTES + 1]), Err(OwnLogError::TooLong)));
    }

    #[test]
    fn a_value_tells_how_many_records_were_extended() {
        let mut records = parse(&log(&["one", "two", "two"])).unwrap().records;
        records.push(Record::new(PcrIndex::UNIFIED_KERNEL, "another PCR's"));
        let replay = replay(&records, PCR);
        assert_eq!(replay.values().len(), 4);
        let two = PcrValue::digest_of(b"two");
        let after_one = extend(PCR.start(), PcrValue::digest_of(b"one"));
        for (value, extended, pending) in [
            (PCR.start(), 0, vec![PcrValue::digest_of(b"one"), two, two]),
            (after_one, 1, vec![two, two]),
            (extend(after_one, two), 2, vec![two]),
            (extend(extend(after_one, two), two), 3, vec![]),
        ] {
            assert_eq!(replay.matches(value), Some(extended));
            assert_eq!(replay.pending(value), Some(pending.as_slice()));
        }
        assert_eq!(replay.last(), extend(extend(after_one, two), two));
        assert_eq!(replay.matches(PcrValue([1; 32])), None);
        assert_eq!(replay.pending(PcrValue([1; 32])), None);
        let others_first = replay_from(PcrValue([9; 32]), &records, PCR);
        assert_eq!(
            (others_first.matches(PcrValue([9; 32])), others_first.matches(PCR.start())),
            (Some(0), None)
        );
    }

    proptest! {
        #[test]
        fn whatever_is_logged_is_read_back(texts in prop::collection::vec(any::<String>(), 0..8)) {
            let records: Vec<Record> = texts.iter().map(|text| record(text)).collect();
            let bytes: Vec<u8> = records.iter().flat_map(Record::to_bytes).collect();
            prop_assert_eq!(parse(&bytes).unwrap().records, records);
        }

        #[test]
        fn any_bytes_are_a_log_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(parsed) = parse(&bytes) {
                prop_assert!(parsed.whole_bytes <= bytes.len());
            }
        }
    }
}
