//! Bytes to a [`FirmwareLog`]: a total function, whose memory is bounded by the bytes that are there.

use super::{FirmwareLog, StartupLocality, event::Event, event::EventKind, reader::Reader};
use crate::measured::pcr::{PcrIndex, PcrValue};

/// Longer logs are refused. Real ones have tens of kilobytes; firmware reserves at most a few hundred.
pub const MAX_BYTES: usize = 16 << 20;

/// More events are refused. Real logs have around a hundred.
pub const MAX_EVENTS: usize = 1 << 16;

/// More digest algorithms are refused. The TCG has registered fewer.
const MAX_ALGORITHMS: u32 = 16;

/// A digest longer than any that is registered.
const MAX_DIGEST: u16 = 64;

const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// The number that stands for "no register", which events that extend nothing may have.
const NO_PCR: u32 = u32::MAX;

const SHA1: u16 = 0x04;
const SHA256: u16 = 0x0b;

/// Why bytes are no event log that we can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It ends too early.
    #[error(
        "the firmware's event log breaks off: at byte {offset}, {expected} needs {needed} bytes, and {left} are left"
    )]
    Short {
        /// Where.
        offset: usize,
        /// What should be there.
        expected: &'static str,
        /// Its size.
        needed: usize,
        /// What there is.
        left: usize,
    },
    /// Something else is there.
    #[error("the firmware's event log is broken: at byte {offset}, expected {expected}, found {found}")]
    Unexpected {
        /// Where.
        offset: usize,
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
    /// No SHA-256 digests.
    #[error(
        "the firmware's event log has no SHA-256 digests ({found}): enable the TPM's SHA-256 bank in the firmware's \
         settings, or in a virtual machine give it a TPM 2.0"
    )]
    NoSha256 {
        /// What it has.
        found: String,
    },
    /// More than is sensible.
    #[error("the firmware's event log has more than {limit} {what}, which no firmware writes")]
    TooMuch {
        /// The limit.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
}

/// Reads a log in the crypto-agile format. See [`FirmwareLog::parse`].
///
/// # Errors
/// [`LogError`].
pub fn parse(bytes: &[u8]) -> Result<FirmwareLog, LogError> {
    if bytes.len() > MAX_BYTES {
        return Err(LogError::TooMuch { limit: MAX_BYTES, what: "bytes" });
    }
    let mut reader = Reader::at(0, bytes);
    let algorithms = spec_id_event(&mut reader)?;
    let mut log = FirmwareLog { locality: StartupLocality::default(), events: Vec::new() };
    let mut locality_told = false;
    while !reader.is_empty() {
        match entry(&mut reader, &algorithms)? {
            Entry::Measured(event) => log.events.push(event),
            Entry::Locality { offset, locality } => {
                let too_late = log.events.iter().any(|event| event.pcr == PcrIndex::FIRMWARE);
                if locality_told || too_late {
                    let expected = "one startup locality, before the first measurement into PCR 0";
                    let found = if locality_told { "another one" } else { "one that comes after it" };
                    return Err(LogError::Unexpected { offset, expected, found: found.to_owned() });
                }
                locality_told = true;
                log.locality = locality;
            }
            Entry::Remark => {}
        }
        if log.events.len() > MAX_EVENTS {
            return Err(LogError::TooMuch { limit: MAX_EVENTS, what: "events" });
        }
    }
    Ok(log)
}

/// What one record of the log comes to.
enum Entry {
    Measured(Event),
    Locality {
        offset: usize,
        locality: StartupLocality,
    },
    /// Extends nothing and says nothing that matters to a value.
    Remark,
}

/// A digest algorithm of this log.
struct Algorithm {
    id: u16,
    size: u16,
}

/// The first record: still in the format of TPM 1.2, it says which digests the others have.
fn spec_id_event(reader: &mut Reader<'_>) -> Result<Vec<Algorithm>, LogError> {
    reader.u32("the first event's PCR")?;
    let offset = reader.offset();
    let kind = EventKind(reader.u32("the first event's type")?);
    reader.take(20, "the first event's SHA-1 digest")?;
    let mut data = reader.sized("the first event's data")?;
    if kind != EventKind::NO_ACTION || !data.bytes().starts_with(SPEC_ID) {
        // A log of the old format starts with a measurement at once, or with "Spec ID Event00".
        if kind != EventKind::NO_ACTION || data.bytes().starts_with(b"Spec ID Event0") {
            return Err(LogError::NoSha256 { found: "it is of the SHA-1 format for TPM 1.2".to_owned() });
        }
        let found = format!("other {} bytes", data.bytes().len());
        return Err(LogError::Unexpected { offset, expected: "the signature `Spec ID Event03`", found });
    }
    data.take(SPEC_ID.len(), "the signature")?;
    data.take(8, "platform class, version and word size of the specification")?;
    algorithms(&mut data)
}

fn algorithms(data: &mut Reader<'_>) -> Result<Vec<Algorithm>, LogError> {
    let offset = data.offset();
    let count = data.u32("the number of digest algorithms")?;
    if count == 0 || count > MAX_ALGORITHMS {
        let found = count.to_string();
        return Err(LogError::Unexpected { offset, expected: "between 1 and 16 digest algorithms", found });
    }
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for _ in 0..count {
        let offset = data.offset();
        let algorithm = Algorithm { id: data.u16("a digest algorithm")?, size: data.u16("a digest's size")? };
        let wrong = match algorithm.id {
            SHA1 => algorithm.size != 20,
            SHA256 => algorithm.size != 32,
            _ => algorithm.size == 0 || algorithm.size > MAX_DIGEST,
        };
        if wrong || algorithms.iter().any(|known| known.id == algorithm.id) {
            let found = format!("algorithm {:#06x} with {} bytes", algorithm.id, algorithm.size);
            let expected = "a digest algorithm of its own with its size";
            return Err(LogError::Unexpected { offset, expected, found });
        }
        algorithms.push(algorithm);
    }
    let vendor = data.u8("the length of vendor information")?;
    data.take(vendor.into(), "vendor information")?;
    if !data.is_empty() {
        let found = format!("{} more bytes", data.bytes().len());
        return Err(LogError::Unexpected {
            offset: data.offset(),
            expected: "the end of the first event",
            found,
        });
    }
    if !algorithms.iter().any(|algorithm| algorithm.id == SHA256) {
        let ids: Vec<String> = algorithms.iter().map(|algorithm| format!("{:#06x}", algorithm.id)).collect();
        return Err(LogError::NoSha256 { found: format!("only algorithm {}", ids.join(", ")) });
    }
    Ok(algorithms)
}

/// Any record but the first.
fn entry(reader: &mut Reader<'_>, algorithms: &[Algorithm]) -> Result<Entry, LogError> {
    let offset = reader.offset();
    let number = reader.u32("an event's PCR")?;
    let kind = EventKind(reader.u32("an event's type")?);
    let digest = digests(reader, algorithms)?;
    let data = reader.sized("an event's data")?;
    if kind == EventKind::NO_ACTION {
        return remark(number, offset, data);
    }
    let pcr = PcrIndex::try_from(number).map_err(|_| LogError::Unexpected {
        offset,
        expected: "a PCR from 0 to 23",
        found: number.to_string(),
    })?;
    Ok(Entry::Measured(Event { offset, pcr, kind, digest, data: data.bytes().to_vec() }))
}

/// The SHA-256 digest among an event's digests.
fn digests(reader: &mut Reader<'_>, algorithms: &[Algorithm]) -> Result<PcrValue, LogError> {
    let offset = reader.offset();
    let count = reader.u32("an event's number of digests")?;
    // The specification wants one of each, and so does Linux before it hands the log out.
    if usize::try_from(count) != Ok(algorithms.len()) {
        let (expected, found) = ("one digest for each algorithm", format!("{count} digests"));
        return Err(LogError::Unexpected { offset, expected, found });
    }
    let mut seen: Vec<u16> = Vec::with_capacity(algorithms.len());
    let mut sha256 = None;
    for _ in 0..count {
        let offset = reader.offset();
        let id = reader.u16("a digest's algorithm")?;
        let algorithm = algorithms.iter().find(|known| known.id == id && !seen.contains(&id));
        let algorithm = algorithm.ok_or_else(|| LogError::Unexpected {
            offset,
            expected: "one digest for each algorithm",
            found: format!("one more for algorithm {id:#06x}"),
        })?;
        seen.push(id);
        if id == SHA256 {
            sha256 = Some(PcrValue(reader.array("a SHA-256 digest")?));
        } else {
            reader.take(algorithm.size.into(), "a digest")?;
        }
    }
    // As many different ones as there are algorithms: SHA-256 is among them.
    sha256.ok_or_else(|| LogError::NoSha256 { found: format!("the event at byte {offset} lacks one") })
}

/// An event that extends nothing.
fn remark(number: u32, offset: usize, mut data: Reader<'_>) -> Result<Entry, LogError> {
    if number != NO_PCR && PcrIndex::try_from(number).is_err() {
        let expected = "a PCR from 0 to 23, or none";
        return Err(LogError::Unexpected { offset, expected, found: number.to_string() });
    }
    if !data.bytes().starts_with(STARTUP_LOCALITY) {
        return Ok(Entry::Remark);
    }
    data.take(STARTUP_LOCALITY.len(), "the signature")?;
    let (at, locality) = (data.offset(), data.u8("the startup locality")?);
    if number != 0 || !data.is_empty() {
        let found = format!("PCR {number} and {} more bytes", data.bytes().len());
        return Err(LogError::Unexpected { offset, expected: "the startup locality of PCR 0", found });
    }
    let locality = StartupLocality::from_number(locality).ok_or_else(|| LogError::Unexpected {
        offset: at,
        expected: "startup locality 0, 3 or 4",
        found: locality.to_string(),
    })?;
    Ok(Entry::Locality { offset, locality })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measured::{
        firmware::testing::{event, first_record, log, record, spec_id},
        pcr::extend,
    };

    const DIGEST: PcrValue = PcrValue([7; 32]);

    fn locality(number: u8) -> Vec<u8> {
        record(0, EventKind::NO_ACTION, DIGEST, &[&STARTUP_LOCALITY[..], &[number]].concat())
    }

    fn both() -> Vec<u8> {
        spec_id(&[(SHA1, 20), (SHA256, 32)])
    }

    #[test]
    fn a_log_and_its_replay() {
        let events = [
            event(0, EventKind::S_CRTM_VERSION, b"v1", b"v1"),
            event(7, EventKind::SEPARATOR, &[0; 4], &[0; 4]),
            event(0, EventKind::SEPARATOR, &[0; 4], &[0; 4]),
        ];
        let parsed = parse(&log(&events)).unwrap();
        assert_eq!(parsed.locality, StartupLocality::Firmware);
        let without_place: Vec<Event> =
            parsed.events.iter().map(|event| Event { offset: 0, ..event.clone() }).collect();
        assert_eq!(without_place, events);
        assert!(parsed.events.iter().all(|event| event.offset > 0));
        let separator = PcrValue::digest_of(&[0; 4]);
        let values = parsed.replay();
        assert_eq!(values.len(), 24);
        let of = |number| values.get(PcrIndex::new(number).unwrap()).unwrap();
        assert_eq!(of(0), extend(extend(PcrValue([0; 32]), PcrValue::digest_of(b"v1")), separator));
        assert_eq!(of(7), extend(PcrValue([0; 32]), separator));
        assert_eq!((of(9), of(17)), (PcrValue([0; 32]), PcrValue([0xff; 32])));
    }

    #[test]
    fn the_startup_locality_is_where_pcr_0_begins() {
        for (number, expected) in
            [(0, StartupLocality::Firmware), (3, StartupLocality::Locality3), (4, StartupLocality::Hardware)]
        {
            let parsed = parse(&[both(), locality(number)].concat()).unwrap();
            assert_eq!((parsed.locality, parsed.events.len()), (expected, 0));
            let mut start = [0; 32];
            start[31] = number;
            assert_eq!(parsed.replay_of(PcrIndex::FIRMWARE), PcrValue(start));
            assert_eq!(parsed.replay_of(PcrIndex::SECURE_BOOT), PcrValue([0; 32]));
        }
    }

    #[test]
    fn remarks_extend_nothing() {
        let remark = record(u32::MAX, EventKind::NO_ACTION, DIGEST, b"SP800-155 Event\0...");
        let parsed = parse(&[both(), remark].concat()).unwrap();
        assert!(parsed.events.is_empty());
        assert_eq!(parsed.replay(), FirmwareLog { locality: parsed.locality, events: vec![] }.replay());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let first = both().len();
        let measured = record(0, EventKind::ACTION, DIGEST, b"x");
        let mut two_sha1 = measured.clone();
        two_sha1[34..36].copy_from_slice(&[4, 0]);
        let mut three = measured.clone();
        three[8] = 3;
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (vec![], "at byte 0, the first event's PCR needs 4 bytes, and 0 are left"),
            (first_record(EventKind::SEPARATOR, &[0; 4]), "SHA-1 format for TPM 1.2"),
            (first_record(EventKind::NO_ACTION, b"Spec ID Event00\0"), "SHA-1 format for TPM 1.2"),
            (first_record(EventKind::NO_ACTION, b"hello"), "at byte 4, expected the signature"),
            (spec_id(&[(SHA1, 20)]), "no SHA-256 digests (only algorithm 0x0004): enable"),
            (spec_id(&[]), "expected between 1 and 16 digest algorithms, found 0"),
            (spec_id(&[(SHA256, 32); 17]), "found 17"),
            (spec_id(&[(SHA256, 33)]), "found algorithm 0x000b with 33 bytes"),
            (spec_id(&[(SHA256, 32), (SHA256, 32)]), "a digest algorithm of its own"),
            (spec_id(&[(SHA256, 32), (0x99, 0)]), "found algorithm 0x0099 with 0 bytes"),
            (
                [both(), record(24, EventKind::ACTION, DIGEST, b"x")].concat(),
                "expected a PCR from 0 to 23, found 24",
            ),
            (
                [both(), record(u32::MAX, EventKind::ACTION, DIGEST, b"x")].concat(),
                "expected a PCR from 0 to 23",
            ),
            ([both(), record(24, EventKind::NO_ACTION, DIGEST, b"x")].concat(), "or none, found 24"),
            ([both(), two_sha1].concat(), "one more for algorithm 0x0004"),
            ([both(), three].concat(), "expected one digest for each algorithm, found 3 digests"),
            ([both(), locality(1)].concat(), "expected startup locality 0, 3 or 4, found 1"),
            ([both(), locality(3), locality(3)].concat(), "one startup locality"),
            ([both(), measured.clone(), locality(3)].concat(), "before the first measurement into PCR 0"),
            (vec![0; MAX_BYTES + 1], "more than 16777216 bytes"),
        ];
        for (bytes, expected) in cases {
            let message = parse(&bytes).unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
        let whole = [both(), measured].concat();
        for len in (0..first).chain(first + 1..whole.len()) {
            assert!(matches!(parse(&whole[..len]), Err(LogError::Short { .. })), "cut at {len}");
        }
    }

    #[test]
    fn lengths_that_lie_allocate_nothing() {
        let mut bytes = [both(), record(0, EventKind::ACTION, DIGEST, b"x")].concat();
        let at = bytes.len() - 5;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let Err(LogError::Short { needed, left, .. }) = parse(&bytes) else { panic!("it is too short") };
        assert_eq!((needed, left), (0xffff_ffff, 1));
        let many = [both(), record(0, EventKind::ACTION, DIGEST, b"").repeat(MAX_EVENTS + 1)].concat();
        assert_eq!(parse(&many), Err(LogError::TooMuch { limit: MAX_EVENTS, what: "events" }));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let kinds =
            prop::sample::select(vec![0x1, 0x4, 0x5, 0x6, 0xd, 0x8000_0001, 0x8000_0002, 0x8000_0003, 0x77]);
        (0_u8..24, kinds, any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(
            |(pcr, kind, digest, data)| Event {
                offset: 0,
                pcr: PcrIndex::new(pcr).unwrap(),
                kind: EventKind(kind),
                digest: PcrValue(digest),
                data,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_replayed(events in prop::collection::vec(any_event(), 0..20)) {
            let parsed = parse(&log(&events)).unwrap();
            prop_assert_eq!(parsed.events.len(), events.len());
            for pcr in PcrIndex::all() {
                let expected = events.iter().filter(|event| event.pcr == pcr);
                let expected = expected.fold(pcr.start(), |value, event| extend(value, event.digest));
                prop_assert_eq!(parsed.replay_of(pcr), expected);
            }
            prop_assert_eq!(parsed.describe().count(), events.len());
        }

        #[test]
        fn any_bytes_are_a_log_or_an_error(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            for bytes in [tail.clone(), [both(), tail].concat()] {
                if let Ok(log) = parse(&bytes) {
                    prop_assert_eq!(log.describe().count(), log.events.len());
                }
            }
        }

        #[test]
        fn any_byte_of_a_log_changed_it_is_a_log_or_an_error(
            events in prop::collection::vec(any_event(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = log(&events);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(log) = parse(&bytes) {
                prop_assert_eq!(log.describe().count(), log.events.len());
            }
        }
    }
}
