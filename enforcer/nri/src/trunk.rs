//! NRI's wire: one socket that carries two connections, with ttrpc in each.
//!
//! Around every message are the number of its connection and a length; inside is the header of ttrpc (length, stream, kind,
//! flags). All numbers are big-endian. On the first connection the runtime calls the plugin, on the second the plugin calls
//! the runtime.

use std::io::{self, Read, Write};

use prost::Message as _;

use crate::protocol::{Answer, Call, Status};

/// The connection on which the runtime calls.
const PLUGIN: u32 = 1;

/// The connection on which the plugin calls.
const RUNTIME: u32 = 2;

/// Number of connections.
const CONNECTIONS: usize = 2;

/// Bytes of ttrpc's header.
const HEADER: usize = 10;

/// Longest message of ttrpc.
const MAX_MESSAGE: usize = 4 << 20;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// A wire that cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum TrunkError {
    /// Reading or writing.
    #[error("the connection to the runtime broke: {0}")]
    Socket(#[from] io::Error),
    /// More than anybody may say at a time.
    #[error("the runtime sent a message of {0} bytes; does something else listen on its NRI socket?")]
    TooLong(usize),
    /// No ttrpc.
    #[error("the runtime sent something that is no message: {0}")]
    Message(#[from] prost::DecodeError),
}

/// What arrives.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    /// The runtime calls.
    Called {
        /// To answer it by.
        stream: u32,
        /// What it calls.
        call: Call,
    },
    /// The runtime answers.
    Answered(Answer),
}

/// A complete message.
struct Frame {
    connection: u32,
    stream: u32,
    kind: u8,
    body: Vec<u8>,
}

/// The near end.
#[derive(Debug)]
pub struct Trunk<S> {
    socket: S,
    /// What has arrived of messages that are not complete, by connection.
    partial: [Vec<u8>; CONNECTIONS],
}

impl<S: Read + Write> Trunk<S> {
    /// The near end of a connected socket.
    pub fn new(socket: S) -> Self {
        Self { socket, partial: Default::default() }
    }

    /// Calls the runtime.
    ///
    /// # Errors
    /// Those of writing.
    pub fn call(&mut self, call: &Call) -> Result<(), TrunkError> {
        // Streams of the calling side are odd, and there is only ever one call.
        self.send(RUNTIME, 1, REQUEST, &call.encode_to_vec())
    }

    /// Answers the runtime.
    ///
    /// # Errors
    /// Those of writing.
    pub fn answer(&mut self, stream: u32, outcome: Result<Vec<u8>, Status>) -> Result<(), TrunkError> {
        let answer = match outcome {
            Ok(payload) => Answer { status: None, payload },
            Err(status) => Answer { status: Some(status), payload: Vec::new() },
        };
        self.send(PLUGIN, stream, RESPONSE, &answer.encode_to_vec())
    }

    /// Waits for the next arrival; `None` when the runtime has hung up.
    ///
    /// # Errors
    /// [`TrunkError`].
    pub fn receive(&mut self) -> Result<Option<Arrival>, TrunkError> {
        loop {
            while let Some(Frame { connection, stream, kind, body }) = self.complete()? {
                match (connection, kind) {
                    (PLUGIN, REQUEST) => {
                        return Ok(Some(Arrival::Called { stream, call: Call::decode(&*body)? }));
                    }
                    (RUNTIME, RESPONSE) => return Ok(Some(Arrival::Answered(Answer::decode(&*body)?))),
                    // Nothing else is part of a conversation without streams.
                    _ => {}
                }
            }
            if !self.read_part()? {
                return Ok(None);
            }
        }
    }

    /// The first complete message of any connection.
    fn complete(&mut self) -> Result<Option<Frame>, TrunkError> {
        for (connection, partial) in (PLUGIN..).zip(&mut self.partial) {
            let Some((header, rest)) = partial.split_first_chunk::<HEADER>() else { continue };
            let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = *header;
            let length = length(u32::from_be_bytes([l0, l1, l2, l3]), MAX_MESSAGE)?;
            let Some(body) = rest.get(..length) else { continue };
            let stream = u32::from_be_bytes([s0, s1, s2, s3]);
            let frame = Frame { connection, stream, kind, body: body.to_vec() };
            partial.drain(..HEADER + length);
            return Ok(Some(frame));
        }
        Ok(None)
    }

    /// Reads one part of some connection; `false` at the end.
    fn read_part(&mut self) -> Result<bool, TrunkError> {
        let mut number = [0; 4];
        let mut first = [0; 1];
        let read = loop {
            match self.socket.read(&mut first) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            return Ok(false);
        }
        let [first] = first;
        let mut rest = [0; 3];
        self.socket.read_exact(&mut rest)?;
        let [second, third, fourth] = rest;
        let connection = u32::from_be_bytes([first, second, third, fourth]);
        self.socket.read_exact(&mut number)?;
        let length = length(u32::from_be_bytes(number), HEADER + MAX_MESSAGE)?;
        let mut part = vec![0; length];
        self.socket.read_exact(&mut part)?;
        // A connection that nobody has opened: its messages are nobody's.
        let partial = connection.checked_sub(PLUGIN).and_then(|at| usize::try_from(at).ok());
        if let Some(partial) = partial.and_then(|at| self.partial.get_mut(at)) {
            partial.append(&mut part);
        }
        Ok(true)
    }

    fn send(&mut self, connection: u32, stream: u32, kind: u8, body: &[u8]) -> Result<(), TrunkError> {
        let too_long = || TrunkError::TooLong(body.len());
        let inner = u32::try_from(body.len()).map_err(|_| too_long())?;
        let outer = u32::try_from(body.len() + HEADER).map_err(|_| too_long())?;
        let mut bytes = Vec::with_capacity(body.len() + HEADER + 8);
        for number in [connection, outer, inner, stream] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend([kind, 0]);
        bytes.extend(body);
        Ok(self.socket.write_all(&bytes)?)
    }
}

fn length(stated: u32, limit: usize) -> Result<usize, TrunkError> {
    let stated = usize::try_from(stated).unwrap_or(usize::MAX);
    if stated <= limit { Ok(stated) } else { Err(TrunkError::TooLong(stated)) }
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, os::unix::net::UnixStream};

    use super::*;

    fn message(stream: u32, kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(stream.to_be_bytes());
        bytes.extend([kind, 0]);
        bytes.extend(body);
        bytes
    }

    fn part(connection: u32, bytes: &[u8]) -> Vec<u8> {
        let mut whole = connection.to_be_bytes().to_vec();
        whole.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        whole.extend(bytes);
        whole
    }

    fn call(method: &str) -> Call {
        Call { service: "s".into(), method: method.into(), payload: vec![1, 2] }
    }

    fn arrivals(bytes: Vec<u8>) -> Vec<Arrival> {
        let mut trunk = Trunk::new(Cursor::new(bytes));
        std::iter::from_fn(|| trunk.receive().unwrap()).collect()
    }

    #[test]
    fn messages_arrive_in_whatever_parts_they_come() {
        let first = message(3, REQUEST, &call("first").encode_to_vec());
        let second = message(5, REQUEST, &call("second").encode_to_vec());
        let answer = message(1, RESPONSE, &Answer::default().encode_to_vec());
        let expected = [
            Arrival::Called { stream: 3, call: call("first") },
            Arrival::Answered(Answer::default()),
            Arrival::Called { stream: 5, call: call("second") },
        ];
        let (head, tail) = first.split_at(7);
        let split = [part(PLUGIN, head), part(RUNTIME, &answer[..4]), part(PLUGIN, tail)];
        let split = [split.concat(), part(RUNTIME, &answer[4..]), part(PLUGIN, &second)].concat();
        assert_eq!(arrivals(split), expected);
        // Two in one part; what nobody listens to, and what is no call, in between.
        let both = [first, second].concat();
        let noise = [part(7, b"noise"), part(PLUGIN, &message(3, 3, b"data")), part(0, b"")].concat();
        let joined = [noise, part(PLUGIN, &both)].concat();
        assert_eq!(arrivals(joined), [expected[0].clone(), expected[2].clone()]);
    }

    #[test]
    fn what_is_sent_is_what_the_other_end_expects() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut trunk = Trunk::new(near);
        trunk.call(&call("x")).unwrap();
        trunk.answer(9, Ok(vec![4])).unwrap();
        let status = Status { code: Status::PERMISSION_DENIED, message: "no".into() };
        trunk.answer(11, Err(status.clone())).unwrap();
        drop(trunk);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).unwrap();
        let good = Answer { status: None, payload: vec![4] };
        let bad = Answer { status: Some(status), payload: Vec::new() };
        let expected = [
            part(RUNTIME, &message(1, REQUEST, &call("x").encode_to_vec())),
            part(PLUGIN, &message(9, RESPONSE, &good.encode_to_vec())),
            part(PLUGIN, &message(11, RESPONSE, &bad.encode_to_vec())),
        ];
        assert_eq!(sent, expected.concat());
    }

    #[test]
    fn what_is_too_long_or_breaks_off_is_an_error() {
        let receive = |bytes: Vec<u8>| Trunk::new(Cursor::new(bytes)).receive();
        let long = [PLUGIN.to_be_bytes(), u32::MAX.to_be_bytes()].concat();
        assert!(matches!(receive(long), Err(TrunkError::TooLong(_))));
        let long_inside = part(PLUGIN, &[&[0xff; 4][..], &[0; 6]].concat());
        assert!(matches!(receive(long_inside), Err(TrunkError::TooLong(_))));
        let broken = part(PLUGIN, &message(1, REQUEST, &call("x").encode_to_vec()));
        assert!(matches!(receive(broken[..broken.len() - 1].to_vec()), Err(TrunkError::Socket(_))));
        assert!(matches!(receive(part(PLUGIN, &message(1, REQUEST, b"\xff"))), Err(TrunkError::Message(_))));
        assert_eq!(receive(Vec::new()).unwrap(), None);
    }
}
