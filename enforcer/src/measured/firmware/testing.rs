//! Events and logs as firmware would write them.

use super::event::{Event, EventKind};
use crate::measured::pcr::{PcrIndex, PcrValue};

/// An event with this data whose digest is that of `hashed`.
pub(crate) fn event(pcr: u8, kind: EventKind, data: &[u8], hashed: &[u8]) -> Event {
    let digest = PcrValue::digest_of(hashed);
    Event { offset: 0, pcr: PcrIndex::new(pcr).unwrap(), kind, digest, data: data.to_vec() }
}

/// `UEFI_VARIABLE_DATA`.
pub(crate) fn variable(name: &str, content: &[u8]) -> Vec<u8> {
    let length = |len: usize| u64::try_from(len).unwrap().to_le_bytes();
    let name = utf16(name);
    [&[0xaa; 16][..], &length(name.len() / 2), &length(content.len()), &name, content].concat()
}

/// Text as firmware has it.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A whole log: SHA-1 and SHA-256 digests.
pub(crate) fn log(events: &[Event]) -> Vec<u8> {
    let mut bytes = spec_id(&[(0x04, 20), (0x0b, 32)]);
    for event in events {
        bytes.extend(record(u32::from(event.pcr.number()), event.kind, event.digest, &event.data));
    }
    bytes
}

/// The first record, which names these algorithms.
pub(crate) fn spec_id(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0\0\0\0\0\x00\x02\x00\x02".to_vec();
    data.extend(u32::try_from(algorithms.len()).unwrap().to_le_bytes());
    for (id, size) in algorithms {
        data.extend([id.to_le_bytes(), size.to_le_bytes()].concat());
    }
    data.push(0);
    first_record(EventKind::NO_ACTION, &data)
}

/// A record in the format of TPM 1.2.
pub(crate) fn first_record(kind: EventKind, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&[0; 4][..], &kind.0.to_le_bytes(), &[0; 20], &len, data].concat()
}

/// A record with a SHA-1 and a SHA-256 digest.
pub(crate) fn record(pcr: u32, kind: EventKind, digest: PcrValue, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap().to_le_bytes();
    let numbers = [pcr, kind.0, 2].map(u32::to_le_bytes).concat();
    [&numbers[..], &[4, 0], &[0; 20], &[0x0b, 0], &digest.0, &len, data].concat()
}
