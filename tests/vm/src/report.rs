//! What the actor says about one operation.

use serde::{Deserialize, Serialize};

/// One line of the actor's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The operation with its arguments, as it was asked for.
    pub op: Vec<String>,
    /// Whether every step succeeded.
    pub ok: bool,
    /// Error number of the step that failed, zero otherwise.
    pub errno: i32,
    /// The step that failed, usually a system call; empty otherwise.
    pub step: String,
    /// What else is worth knowing: bytes read, exit status of a child.
    pub detail: String,
}

/// An operation's failure: which step and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step, usually a system call.
    pub step: String,
    /// Error number.
    pub errno: i32,
}

/// The result of an operation, with a detail for people on success.
pub type Outcome = Result<String, Failure>;

impl Report {
    /// The report of an operation that ended like this.
    #[must_use]
    pub fn new(op: &[String], outcome: Outcome) -> Self {
        let op = op.to_vec();
        match outcome {
            Ok(detail) => Self { op, ok: true, errno: 0, step: String::new(), detail },
            Err(Failure { step, errno }) => Self { op, ok: false, errno, step, detail: String::new() },
        }
    }

    /// The outcome again, for an operation that was carried out by another process.
    ///
    /// # Errors
    /// The failure that was reported.
    pub fn into_outcome(self) -> Outcome {
        if self.ok { Ok(self.detail) } else { Err(Failure { step: self.step, errno: self.errno }) }
    }

    /// Whether the kernel refused it the way an LSM does.
    #[must_use]
    pub fn refused(&self) -> bool {
        !self.ok && matches!(self.errno, libc::EPERM | libc::EACCES)
    }
}

/// Names the step that a result belongs to.
pub trait At<T> {
    /// Turns the error into a [`Failure`] of this step.
    ///
    /// # Errors
    /// The error, if there was one.
    fn at(self, step: &str) -> Result<T, Failure>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: &str) -> Result<T, Failure> {
        self.map_err(|errno| Failure { step: step.into(), errno: errno as i32 })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure { step: step.into(), errno: error.raw_os_error().unwrap_or(libc::EIO) })
    }
}
