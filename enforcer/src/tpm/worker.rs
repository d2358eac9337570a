//! The thread that talks to the TPM, so that nobody else waits for one that does not answer.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Connection, TpmError};

/// How long to wait at the end for the TPM to be tidied up, if the deadline is nearer than that.
const FAREWELL: Duration = Duration::from_secs(2);

type Request = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the thread. The connection is closed before the handle is gone, unless the TPM hangs.
#[derive(Debug)]
pub(super) struct Worker {
    requests: Sender<Request>,
    deadline: Duration,
    until: Instant,
    /// A request was not answered in time. The thread may never come back.
    stuck: AtomicBool,
}

impl Worker {
    /// Starts the thread. The connection is made there, because it may not move.
    pub(super) fn start(
        deadline: Duration,
        until: Instant,
        connection: impl FnOnce() -> Connection + Send + 'static,
    ) -> Result<Self, TpmError> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let work = move || {
            let mut connection = connection();
            for request in inbox {
                request(&mut connection);
            }
        };
        thread::Builder::new()
            .name("tpm".to_owned())
            .spawn(work)
            .map_err(|source| TpmError::System { what: "starting a thread", source })?;
        Ok(Self { requests, deadline, until, stuck: AtomicBool::new(false) })
    }

    /// Has the thread do something, and waits for it until the deadline.
    pub(super) fn call<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut Connection) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        self.call_until(self.until, request)
    }

    fn call_until<T: Send + 'static>(
        &self,
        until: Instant,
        request: impl FnOnce(&mut Connection) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let timed_out = || TpmError::TimedOut(self.deadline);
        if self.stuck.load(Ordering::Relaxed) {
            return Err(timed_out());
        }
        let (reply, answer) = mpsc::channel();
        let work: Request = Box::new(move |connection| {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(request(connection));
        });
        let ended = || {
            let source = io::Error::other("the thread for it ended");
            TpmError::System { what: "talking to the TPM", source }
        };
        self.requests.send(work).map_err(|_| ended())?;
        match answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
            Err(RecvTimeoutError::Timeout) => {
                self.stuck.store(true, Ordering::Relaxed);
                Err(timed_out())
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let until = self.until.max(Instant::now() + FAREWELL);
        // Nothing else can be done about a TPM that cannot even be tidied up; the kernel flushes what was loaded.
        let _ = self.call_until(until, |connection| {
            connection.close();
            Ok(())
        });
    }
}
