//! The text of a policy file, and places in it.
//!
//! Holding a [`Source`] means: the file is UTF-8, not larger than [`Source::MAX_BYTES`], and every [`Span`] made
//! from it can be shown to its author. Nothing is known about its meaning; that is [`super::parse`]'s to find out.

use std::ops::Range;

/// A policy file as its author wrote it.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    /// Byte offsets at which lines start.
    lines: Vec<usize>,
}

/// Why some bytes are not a policy file at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Larger than anyone writes, and than the parser should be asked to hold.
    #[error("{name}: {bytes} bytes is too large for a policy (at most {} bytes)", Source::MAX_BYTES)]
    TooLarge {
        /// The file.
        name: String,
        /// Its size.
        bytes: usize,
    },
    /// TOML is UTF-8.
    #[error(
        "{name}:{line}: not UTF-8 text (byte {offset}); write other bytes of a path as `?`, which matches any one byte"
    )]
    NotUtf8 {
        /// The file.
        name: String,
        /// Line of the first bad byte, from 1.
        line: usize,
        /// Its offset in bytes.
        offset: usize,
    },
}

impl Source {
    /// Largest policy file.
    pub const MAX_BYTES: usize = 16 << 20;

    /// Takes a file's content.
    ///
    /// # Errors
    /// [`SourceError`] for what is not text.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Result<Self, SourceError> {
        let (name, bytes) = (name.into(), bytes.into());
        if bytes.len() > Self::MAX_BYTES {
            return Err(SourceError::TooLarge { name, bytes: bytes.len() });
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                let line = error.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1;
                return Err(SourceError::NotUtf8 { name, line, offset });
            }
        };
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(newlines).collect();
        Ok(Self { name, text, lines })
    }

    /// What the file is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    /// Where an offset lies, for people.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        let column =
            self.text.get(start..offset.min(self.text.len())).map_or(0, |before| before.chars().count());
        Position { line, column: column + 1 }
    }

    /// The line an offset lies in, from 1, as rules record it.
    #[must_use]
    pub fn line(&self, offset: usize) -> u32 {
        // Not through `position`: counting columns would make a file of one long line quadratic.
        u32::try_from(self.lines.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }

    /// The whole lines that a span touches, and the number of the first.
    #[must_use]
    pub(super) fn lines_around(&self, span: Span) -> (Range<usize>, usize) {
        let first = self.lines.partition_point(|start| *start <= span.start).max(1);
        let after = self.lines.partition_point(|start| *start < span.end.max(span.start + 1));
        let start = self.lines.get(first - 1).copied().unwrap_or(0);
        let end = self.lines.get(after).copied().unwrap_or(self.text.len());
        (start..end.max(start), first)
    }
}

/// A stretch of a [`Source`], in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

impl Span {
    /// As a range.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// Line and column, from 1. Columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let source = Source::new("x", "ab\nçd\n\nz").unwrap();
        let at = |offset| {
            let Position { line, column } = source.position(offset);
            (line, column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(2), (1, 3));
        assert_eq!(at(3), (2, 1));
        assert_eq!(at(5), (2, 2));
        assert_eq!(at(7), (3, 1));
        assert_eq!(at(8), (4, 1));
        assert_eq!(at(9), (4, 2));
        assert_eq!(at(900).0, 4);
    }

    #[test]
    fn whole_lines() {
        let source = Source::new("x", "ab\ncd\nef").unwrap();
        assert_eq!(source.lines_around(Span { start: 4, end: 5 }), (3..6, 2));
        assert_eq!(source.lines_around(Span { start: 0, end: 4 }), (0..6, 1));
        assert_eq!(source.lines_around(Span { start: 8, end: 8 }), (6..8, 3));
        assert_eq!(source.lines_around(Span { start: 0, end: 0 }), (0..3, 1));
    }

    #[test]
    fn what_is_not_text() {
        let error = Source::new("x", b"a\nb\xff".to_vec()).unwrap_err();
        assert_eq!(error, SourceError::NotUtf8 { name: "x".into(), line: 2, offset: 3 });
        assert!(matches!(
            Source::new("x", vec![b' '; Source::MAX_BYTES + 1]),
            Err(SourceError::TooLarge { .. })
        ));
    }
}
