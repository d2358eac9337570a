//! Just enough HTTP to ask our own servers, and to be asked by an implant.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::servers::Count;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

/// `GET`.
///
/// # Errors
/// When the server is not there or makes no sense.
pub fn get(server: &str, path: &str) -> io::Result<Answer> {
    ask(server, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"), &[])
}

/// `POST`.
///
/// # Errors
/// When the server is not there or makes no sense.
pub fn post(server: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
    let length = body.len();
    ask(server, &format!("POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"), body)
}

fn ask(server: &str, head: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no HTTP answer: {head:?}")))?;
    Ok(Answer { status, body: body.into() })
}

/// Escapes a query parameter.
#[must_use]
pub fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Serves files by path, and counts who comes.
///
/// # Errors
/// When the address cannot be had.
pub fn serve(at: &str, files: BTreeMap<String, Vec<u8>>) -> io::Result<(SocketAddr, Count)> {
    let listener = TcpListener::bind(at)?;
    let address = listener.local_addr()?;
    let count = Count::default();
    let counter = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.count_arrival();
            // A client that goes away early is its own problem.
            let _ = answer(stream, &files, &counter);
        }
    });
    Ok((address, count))
}

fn answer(mut stream: TcpStream, files: &BTreeMap<String, Vec<u8>>, count: &Count) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut request)?;
    count.count_bytes(request.len());
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    match request.split(' ').nth(1).and_then(|path| files.get(path)) {
        Some(file) => {
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", file.len())?;
            stream.write_all(file)
        }
        None => stream.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}
