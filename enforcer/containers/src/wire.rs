//! One question, one answer, each a line of JSON, over the daemon's control socket.
//!
//! Everything has a limit: the length of a line, and the time until the answer is there.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::container::Container;

/// Where the daemon listens. In a directory of root's.
pub const SOCKET: &str = "/run/enforcer/control.sock";

/// Longest line, in bytes.
pub const MAX_LINE: usize = 256 * 1024;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Bind a container's cgroup to the policy that admits the container.
    Bind(Bind),
    /// Say whether a container that is yet to be made could be admitted, by what is known of it so far. Nothing is bound.
    Check(Bind),
    /// Bind a container that runs already, unless it has a policy of its own.
    Reconcile(Bind),
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The path of its cgroup, from the root of the hierarchy. What is below is the container's, too.
    pub cgroup: String,
    /// The container.
    pub container: Container,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Whatever the container starts from now on is judged by this policy.
    Bound {
        /// Its name.
        policy: String,
    },
    /// The container may be made. Whether it may start is asked when it is there.
    Admissible,
    /// The container must not start; one that runs stays under the base policy.
    Refused {
        /// Why.
        message: String,
    },
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or not to us.
    #[error("cannot reach the daemon at {}: {source}; is `enforcer run` active?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the daemon at {} did not answer: {source}", path.display())]
    Talk {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer makes no sense.
    #[error("the daemon's answer makes no sense ({0}); is it of another version?")]
    Answer(serde_json::Error),
    /// The question has no form.
    #[error("the question cannot be written: {0}")]
    Question(serde_json::Error),
}

/// Asks, and waits for the answer until the time is up.
///
/// # Errors
/// [`AskError`]; then nothing is known, and nothing may start.
pub fn ask(socket: &Path, request: &Request, patience: Duration) -> Result<Reply, AskError> {
    let talk = |source| AskError::Talk { path: socket.to_owned(), source };
    let deadline = Instant::now() + patience;
    let question = serde_json::to_string(request).map_err(AskError::Question)?;
    // Does not wait: a queue that is full is an error.
    let mut stream = UnixStream::connect(socket)
        .map_err(|source| AskError::Connect { path: socket.to_owned(), source })?;
    send_line(&mut stream, &question, deadline).map_err(talk)?;
    let answer = receive_line(&mut stream, deadline).map_err(talk)?;
    serde_json::from_str(&answer).map_err(AskError::Answer)
}

/// Writes one line.
///
/// # Errors
/// Those of writing, and `TimedOut`.
pub fn send_line(stream: &mut UnixStream, line: &str, deadline: Instant) -> io::Result<()> {
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(b'\n');
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) => again(error)?,
        }
    }
    Ok(())
}

/// Reads one line, without its end.
///
/// # Errors
/// Those of reading, `TimedOut`, and `InvalidData` for more than [`MAX_LINE`] bytes or something that is no text.
pub fn receive_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<String> {
    let mut line = Vec::new();
    let mut part = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => line.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) => again(error)?,
        }
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return String::from_utf8(line)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if line.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
    }
}

/// Time until the deadline, which is never zero: that would mean for ever.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Errors that are no reason to give up: the loop looks at the deadline.
fn again(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    fn request() -> Request {
        let container = Container { id: "c".into(), ..Container::default() };
        Request::Bind(Bind { cgroup: "/machine.slice/c".into(), container })
    }

    /// A daemon that says `answer` to whatever it is asked, in two parts, and stays.
    fn daemon(answer: &'static str) -> (tempfile::TempDir, PathBuf, thread::JoinHandle<String>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let question = receive_line(&mut stream, Instant::now() + Duration::from_secs(10)).unwrap();
            let (first, second) = answer.split_at(answer.len() / 2);
            stream.write_all(first.as_bytes()).unwrap();
            stream.write_all(second.as_bytes()).unwrap();
            // Until the other side has gone: what it makes of a missing end is the test.
            let _ = stream.read(&mut [0; 1]);
            question
        });
        (directory, socket, thread)
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn question_and_answer() {
        let (_directory, socket, thread) = daemon("{\"bound\":{\"policy\":\"web\"}}\nrest");
        let reply = ask(&socket, &request(), PATIENCE).unwrap();
        assert_eq!(reply, Reply::Bound { policy: "web".into() });
        let question = thread.join().unwrap();
        assert_eq!(serde_json::from_str::<Request>(&question).unwrap(), request());
    }

    #[test]
    fn whatever_is_no_answer_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let nobody = ask(&directory.path().join("none"), &request(), PATIENCE).unwrap_err();
        assert!(matches!(nobody, AskError::Connect { .. }), "{nobody}");
        for (answer, patience) in [("nonsense\n", PATIENCE), ("{\"bound\":{}}\n", PATIENCE)] {
            let (_directory, socket, thread) = daemon(answer);
            let error = ask(&socket, &request(), patience).unwrap_err();
            assert!(matches!(error, AskError::Answer(_)), "{error}");
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_daemon_that_hangs_is_waited_for_until_the_time_is_up() {
        let (_directory, socket, thread) = daemon("{\"bound\":");
        let started = Instant::now();
        let error = ask(&socket, &request(), Duration::from_millis(300)).unwrap_err();
        assert!(matches!(&error, AskError::Talk { source, .. } if source.kind() == io::ErrorKind::TimedOut));
        assert!(started.elapsed() >= Duration::from_millis(300), "{error}");
        thread.join().unwrap();
        // Nobody even takes the question.
        let socket = tempfile::tempdir().unwrap();
        let path = socket.path().join("control.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = ask(&path, &request(), Duration::from_millis(100)).unwrap_err();
        assert!(matches!(&error, AskError::Talk { source, .. } if source.kind() == io::ErrorKind::TimedOut));
    }

    #[test]
    fn lines_have_a_limit() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || {
            let _ = one.write_all(&vec![b'x'; 2 * MAX_LINE]);
        });
        let error = receive_line(&mut other, Instant::now() + PATIENCE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(other);
        thread.join().unwrap();
    }
}
