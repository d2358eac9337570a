//! Length-prefixed messages from guest to host: one kind byte, a little-endian `u32` length, the payload.
//!
//! The port is reliable and ordered, so there is no checksum and no resynchronisation: an unknown kind or an
//! absurd length means the two ends were built from different trees, and is an error.

use std::io::{self, Read, Write};

/// Longer payloads are split by the sender; a longer announced length is a broken peer.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The guest is up and about to start the command; carries `uname -r`.
    Hello(String),
    /// Bytes the command wrote to standard output.
    Stdout(Vec<u8>),
    /// Bytes the command wrote to standard error.
    Stderr(Vec<u8>),
    /// A part of a file from the artifact directory.
    Artifact {
        /// File name, without directory.
        name: String,
        /// The next bytes of that file.
        data: Vec<u8>,
    },
    /// A remark of the guest's runner itself.
    Note(String),
    /// The command ended with this status (128 + signal when killed). Last frame; file systems are synced.
    Exit(i32),
}

const HELLO: u8 = 1;
const STDOUT: u8 = 2;
const STDERR: u8 = 3;
const ARTIFACT: u8 = 4;
const NOTE: u8 = 5;
const EXIT: u8 = 6;

impl Frame {
    /// Writes the frame in one call, so that frames of several threads cannot interleave under one lock.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let (kind, payload) = match self {
            Self::Hello(text) => (HELLO, text.as_bytes().to_vec()),
            Self::Stdout(data) => (STDOUT, data.clone()),
            Self::Stderr(data) => (STDERR, data.clone()),
            Self::Artifact { name, data } => (ARTIFACT, [name.as_bytes(), b"\0", data].concat()),
            Self::Note(text) => (NOTE, text.as_bytes().to_vec()),
            Self::Exit(status) => (EXIT, status.to_le_bytes().to_vec()),
        };
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAX_PAYLOAD)
            .ok_or_else(|| invalid(format!("payload of {} bytes", payload.len())))?;
        let mut message = Vec::with_capacity(5 + payload.len());
        message.push(kind);
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&payload);
        out.write_all(&message)?;
        out.flush()
    }

    /// Reads one frame; `None` at a clean end of the stream.
    pub fn read_from(input: &mut impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0; 1];
        if input.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_PAYLOAD {
            return Err(invalid(format!("length {length} in frame of kind {}", kind[0])));
        }
        let mut payload = vec![0; length];
        input.read_exact(&mut payload)?;
        Self::decode(kind[0], payload).map(Some)
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|e| invalid(e.to_string()));
        Ok(match kind {
            HELLO => Self::Hello(text(payload)?),
            STDOUT => Self::Stdout(payload),
            STDERR => Self::Stderr(payload),
            ARTIFACT => {
                let end = payload.iter().position(|byte| *byte == 0);
                let end = end.ok_or_else(|| invalid("artifact without a name".into()))?;
                Self::Artifact { name: text(payload[..end].to_vec())?, data: payload[end + 1..].to_vec() }
            }
            NOTE => Self::Note(text(payload)?),
            EXIT => {
                let status = payload.try_into().map_err(|_| invalid("exit status is not 4 bytes".into()))?;
                Self::Exit(i32::from_le_bytes(status))
            }
            other => return Err(invalid(format!("unknown frame kind {other}"))),
        })
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire() {
        let frames = [
            Frame::Hello("6.12.1".into()),
            Frame::Stdout(vec![0, 1, 255, b'\n']),
            Frame::Stderr(Vec::new()),
            Frame::Artifact { name: "verifier.log".into(), data: b"a\0b".to_vec() },
            Frame::Note("note".into()),
            Frame::Exit(-1),
            Frame::Exit(143),
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write_to(&mut wire).unwrap();
        }
        let mut input = wire.as_slice();
        for frame in &frames {
            assert_eq!(Frame::read_from(&mut input).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(Frame::read_from(&mut input).unwrap(), None);
    }

    #[test]
    fn broken_streams_are_errors() {
        let cases: [(&str, &[u8]); 5] = [
            ("truncated header", &[STDOUT, 1, 0]),
            ("truncated payload", &[STDOUT, 2, 0, 0, 0, 1]),
            ("unknown kind", &[99, 0, 0, 0, 0]),
            ("absurd length", &[STDOUT, 0xff, 0xff, 0xff, 0xff]),
            ("short status", &[EXIT, 1, 0, 0, 0, 7]),
        ];
        for (what, mut bytes) in cases {
            assert!(Frame::read_from(&mut bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn oversized_payload_is_refused_by_the_sender() {
        let frame = Frame::Stdout(vec![0; MAX_PAYLOAD + 1]);
        assert!(frame.write_to(&mut Vec::new()).is_err());
    }
}
