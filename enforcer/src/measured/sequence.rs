//! JSON text sequences (RFC 7464), the format of our own log and of systemd's.

/// Starts a record. JSON text never contains it.
pub(super) const START: u8 = 0x1e;
/// Ends one. JSON escapes line feeds, so no record contains any.
pub(super) const END: u8 = b'\n';

/// Why something is no record.
pub(super) const NO_START: &str = "a record does not start here";

/// The JSON texts with the offsets where their records start; no text where none starts.
pub(super) fn texts(bytes: &[u8]) -> impl Iterator<Item = (usize, Option<&[u8]>)> {
    bytes.split_inclusive(|byte| *byte == END).scan(0, |offset, record| {
        let start = *offset;
        *offset += record.len();
        Some((start, record.strip_prefix(&[START])))
    })
}
