//! One question over gRPC, by a Unix socket. There is no more to it than a POST request with five bytes before the message,
//! and a status in the trailers.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use prost::Message;
use tokio::{net::UnixStream, runtime, time};

/// Longest answer.
const MAX_ANSWER: usize = 16 << 20;

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A question that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// Nobody listens.
    #[error("cannot reach {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("{method} was not answered within {} ms", patience.as_millis())]
    TooLate {
        /// The method.
        method: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The other end refused, or failed.
    #[error("{method} failed with status {code}: {message}")]
    Status {
        /// The method.
        method: String,
        /// One of gRPC's codes.
        code: i32,
        /// In the other end's words.
        message: String,
    },
    /// The connection.
    #[error("the conversation broke off: {0}")]
    Http(#[from] h2::Error),
    /// The method's name.
    #[error("{0:?} is no name of a method")]
    Method(String),
    /// No answer to this question.
    #[error("{0} was answered with something that makes no sense")]
    Answer(String),
    /// Our own end.
    #[error("cannot wait for an answer: {0}")]
    Runtime(io::Error),
}

/// A service at a socket.
#[derive(Clone, Debug)]
pub struct Channel {
    socket: PathBuf,
}

impl Channel {
    /// The service that listens there, or will.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks, and waits for the answer until the time is up. `method` is `package.Service/Method`.
    ///
    /// # Errors
    /// [`GrpcError`].
    pub fn ask<A: Message + Default>(
        &self,
        method: &str,
        question: &impl Message,
        patience: Duration,
    ) -> Result<A, GrpcError> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(GrpcError::Runtime)?;
        let answer = runtime.block_on(async {
            time::timeout(patience, self.unary(method, prefixed(question)))
                .await
                .map_err(|_| GrpcError::TooLate { method: method.to_owned(), patience })?
        })?;
        let message = unprefixed(&answer).and_then(|message| A::decode(message).ok());
        message.ok_or_else(|| GrpcError::Answer(method.to_owned()))
    }

    async fn unary(&self, method: &str, question: Bytes) -> Result<Bytes, GrpcError> {
        let request = Request::post(format!("http://localhost/{method}"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())
            .map_err(|_| GrpcError::Method(method.to_owned()))?;
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| GrpcError::Connect { path: self.socket.clone(), source })?;
        let (client, connection) = h2::client::handshake(stream).await?;
        // Ends with the runtime. What it fails with, the request fails with, too.
        tokio::spawn(connection);
        let (response, mut body) = client.ready().await?.send_request(request, false)?;
        body.send_data(question, true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut answer = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER {
                return Err(GrpcError::Answer(method.to_owned()));
            }
        }
        // A failure may say all it has to say in the head.
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        match code(&trailers) {
            Some(0) => Ok(answer.freeze()),
            Some(code) => {
                Err(GrpcError::Status { method: method.to_owned(), code, message: said(&trailers) })
            }
            None => Err(GrpcError::Answer(method.to_owned())),
        }
    }
}

fn code(trailers: &HeaderMap) -> Option<i32> {
    trailers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn said(trailers: &HeaderMap) -> String {
    let message = trailers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
    unescaped(message)
}

/// Text without its `%XX`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| byte == b'%').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(escaped.unwrap_or(byte));
        rest = after.get(if escaped.is_some() { 2.. } else { 0.. }).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn prefixed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    bytes.extend_from_slice(&[0]);
    // Questions are short: what does not fit is cut short, and refused at the other end.
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&message);
    bytes.freeze()
}

/// The message of an answer that has one, not compressed, and no more.
fn unprefixed(answer: &[u8]) -> Option<&[u8]> {
    let ([compressed, l0, l1, l2, l3], message) = answer.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_be_bytes([*l0, *l1, *l2, *l3])).ok()?;
    (*compressed == 0 && length == message.len()).then_some(message)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::thread;

    use tokio::net::UnixListener;

    use super::*;
    use crate::protocol::Status;

    /// What a service says to one question.
    pub(crate) enum Script {
        /// A message.
        Says(Vec<u8>),
        /// A status, in the head.
        Fails(i32, &'static str),
        /// Nothing.
        Hangs,
    }

    /// A service that answers by method, until it is dropped.
    pub(crate) fn service(script: Vec<(&'static str, Script)>) -> (tempfile::TempDir, Channel) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.sock");
        let channel = Channel::at(&path);
        let (ready, listening) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(&path).unwrap();
                ready.send(()).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    // Whoever asked hangs up after one answer, or without it.
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let method = request.uri().path().trim_start_matches('/').to_owned();
                        let script = script.iter().find(|(name, _)| *name == method);
                        match script.map(|(_, script)| script) {
                            Some(Script::Says(message)) => {
                                let head = http::Response::new(());
                                let mut body = respond.send_response(head, false).unwrap();
                                let mut bytes = vec![0];
                                bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
                                bytes.extend(message);
                                body.send_data(bytes.into(), false).unwrap();
                                let mut trailers = HeaderMap::new();
                                trailers.insert("grpc-status", "0".parse().unwrap());
                                body.send_trailers(trailers).unwrap();
                            }
                            Some(Script::Fails(code, message)) => {
                                let head = http::Response::builder()
                                    .header("grpc-status", code.to_string())
                                    .header("grpc-message", *message);
                                respond.send_response(head.body(()).unwrap(), true).unwrap();
                            }
                            Some(Script::Hangs) => std::mem::forget(respond),
                            None => panic!("nobody expected {method}"),
                        }
                    }
                }
            });
        });
        listening.recv().unwrap();
        (directory, channel)
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn question_and_answer() {
        let told = Status { code: 5, message: "x".repeat(100_000) };
        let (_directory, channel) = service(vec![("a.B/C", Script::Says(told.encode_to_vec()))]);
        assert_eq!(channel.ask::<Status>("a.B/C", &Status::default(), PATIENCE).unwrap(), told);
    }

    #[test]
    fn whatever_is_no_answer_is_an_error() {
        let (_directory, channel) = service(vec![
            ("s/Fails", Script::Fails(5, "no such%20thing")),
            ("s/Hangs", Script::Hangs),
            ("s/Babbles", Script::Says(vec![0xff])),
        ]);
        let ask = |method: &str, patience| channel.ask::<Status>(method, &Status::default(), patience);
        let failed = ask("s/Fails", PATIENCE).unwrap_err();
        assert!(
            matches!(&failed, GrpcError::Status { code: 5, message, .. } if message == "no such thing"),
            "{failed}"
        );
        let late = ask("s/Hangs", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(late, GrpcError::TooLate { .. }), "{late}");
        let babble = ask("s/Babbles", PATIENCE).unwrap_err();
        assert!(matches!(babble, GrpcError::Answer(_)), "{babble}");
        let nobody = Channel::at(Path::new("/nowhere/at.all"));
        let nobody = nobody.ask::<Status>("s/Any", &Status::default(), PATIENCE).unwrap_err();
        assert!(matches!(nobody, GrpcError::Connect { .. }), "{nobody}");
    }

    #[test]
    fn prefixes() {
        assert_eq!(unprefixed(&prefixed(&Status { code: 1, message: String::new() })), Some(&[8, 1][..]));
        for bad in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 0, 9]] {
            assert_eq!(unprefixed(bad), None, "{bad:?}");
        }
        assert_eq!(unescaped("a%2Fb%zz%2"), "a/b%zz%2");
    }
}
