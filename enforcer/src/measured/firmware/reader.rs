//! Little-endian numbers out of untrusted bytes. Every read names what it expects, and knows where it is.

use super::parse::LogError;

/// What is left of some bytes, and where that is in the log.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads bytes that are at `offset` in the log.
    pub(super) const fn at(offset: usize, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset }
    }

    /// Where the next byte is in the log.
    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    /// Whether nothing is left.
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], LogError> {
        let short = LogError::Short { offset: self.offset, expected, needed: len, left: self.rest.len() };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        self.offset += len;
        Ok(taken)
    }

    /// A length that is a number of bytes, and then so many bytes.
    pub(super) fn sized(&mut self, expected: &'static str) -> Result<Reader<'a>, LogError> {
        // Longer than the address space is longer than what is left.
        let len = usize::try_from(self.u32(expected)?).unwrap_or(usize::MAX);
        let offset = self.offset;
        Ok(Reader::at(offset, self.take(len, expected)?))
    }

    /// All that is left.
    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    pub(super) fn u8(&mut self, expected: &'static str) -> Result<u8, LogError> {
        self.array(expected).map(u8::from_le_bytes)
    }

    /// Two bytes.
    pub(super) fn u16(&mut self, expected: &'static str) -> Result<u16, LogError> {
        self.array(expected).map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub(super) fn u32(&mut self, expected: &'static str) -> Result<u32, LogError> {
        self.array(expected).map(u32::from_le_bytes)
    }

    /// So many bytes as their type says.
    pub(super) fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], LogError> {
        let short = LogError::Short { offset: self.offset, expected, needed: N, left: self.rest.len() };
        let (taken, rest) = self.rest.split_first_chunk().ok_or(short)?;
        self.rest = rest;
        self.offset += N;
        Ok(*taken)
    }
}
