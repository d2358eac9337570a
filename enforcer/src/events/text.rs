//! Names are bytes, JSON is text: the one way to get from here to there and back.
//!
//! UTF-8 stays as it is, except that a backslash becomes `\\`; a byte that is not part of valid UTF-8 becomes `\xNN`.
//! No two names give the same text, and [`to_bytes`] undoes it.

use std::fmt::Write as _;

/// A name as text.
#[must_use]
pub fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The name that a text stands for. `None` if [`from_bytes`] makes no such text.
#[must_use]
pub fn to_bytes(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        if *byte != b'\\' {
            bytes.push(*byte);
            rest = tail;
            continue;
        }
        if let Some(tail) = tail.strip_prefix(b"\\") {
            bytes.push(b'\\');
            rest = tail;
        } else {
            let digits = tail.strip_prefix(b"x")?.get(..2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &tail[3..];
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts() {
        let table: [(&[u8], &str); 5] = [
            (b"/etc/passwd", "/etc/passwd"),
            ("/tmp/näme\n".as_bytes(), "/tmp/näme\n"),
            (b"/tmp/\xff\xfe", r"/tmp/\xff\xfe"),
            (br"/dev-disk\x2duuid", r"/dev-disk\\x2duuid"),
            (b"\xe2\x82", r"\xe2\x82"),
        ];
        for (bytes, text) in table {
            assert_eq!(from_bytes(bytes), text);
            assert_eq!(to_bytes(text).as_deref(), Some(bytes));
        }
        for wrong in [r"\", r"\x", r"\x1", r"\xzz", r"\n"] {
            assert_eq!(to_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_pair_of_bytes_comes_back() {
        for first in 0..=255u8 {
            for second in [0, b'\\', b'x', b'f', 0x80, 0xc3, 0xff] {
                let bytes = [first, second, b'f', b'f'];
                assert_eq!(to_bytes(&from_bytes(&bytes)).as_deref(), Some(&bytes[..]));
            }
        }
    }
}
