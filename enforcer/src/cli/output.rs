//! Colour, where there is somebody to see it.

use std::{
    fs::File,
    io::{IsTerminal, Write as _},
    path::Path,
};

use anyhow::Context as _;

use crate::file;

/// The colours in use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
    Bold,
}

/// Whether to use colour on this stream: a terminal, and `NO_COLOR` is not set.
pub(super) fn has_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The text in colour, if the stream takes it.
pub(super) fn paint(stream: &impl IsTerminal, colour: Colour, text: &str) -> String {
    if !has_colour(stream) {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Red => "1;31",
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Bold => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Text from outside, safe for a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Writes a file that must not be there yet.
pub(super) fn create_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Replaces a file whole, or makes it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    file::replace(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
