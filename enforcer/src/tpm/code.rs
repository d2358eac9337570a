//! Response codes of the TPM and of the software stack in front of it.
#![forbid(unsafe_code)]

use std::{error::Error as _, fmt};

use tss_esapi::{Error, constants::response_code::Tss2ResponseCode};

/// A code that is not success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(Tss2ResponseCode);

/// What a code means for us, if anything particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The TPM wants to be asked again: `TPM_RC_YIELDED`, `TPM_RC_TESTING`, `TPM_RC_RETRY`.
    Later,
    /// The way to the TPM is broken.
    Disconnected,
    /// `TPM_RC_INITIALIZE`, `TPM_RC_FAILURE`.
    Failed,
    /// `TPM_RC_HANDLE` for the first handle: there is no such index.
    NoSuchHandle,
    /// `TPM_RC_NV_SPACE`.
    NvFull,
    /// `TPM_RC_NV_DEFINED`.
    NvDefined,
    /// `TPM_RC_AUTH_FAIL`, `TPM_RC_BAD_AUTH` in the first session; `TPM_RC_HIERARCHY` for the first handle;
    /// `TPM_RC_AUTH_UNAVAILABLE`.
    NotAuthorized,
    /// Any other.
    Other,
}

const MEANINGS: &[(u32, Meaning)] = &[
    (0x908, Meaning::Later),
    (0x90a, Meaning::Later),
    (0x922, Meaning::Later),
    // TCTI: general failure, no connection, I/O error.
    (0xa_0001, Meaning::Disconnected),
    (0xa_0008, Meaning::Disconnected),
    (0xa_000a, Meaning::Disconnected),
    (0x100, Meaning::Failed),
    (0x101, Meaning::Failed),
    (0x18b, Meaning::NoSuchHandle),
    (0x14b, Meaning::NvFull),
    (0x14c, Meaning::NvDefined),
    (0x98e, Meaning::NotAuthorized),
    (0x9a2, Meaning::NotAuthorized),
    (0x185, Meaning::NotAuthorized),
    (0x12f, Meaning::NotAuthorized),
];

impl Code {
    pub(super) fn new(code: u32) -> Self {
        Self(code.into())
    }

    pub(super) fn meaning(self) -> Meaning {
        let known = MEANINGS.iter().find(|(code, _)| Self::new(*code) == self);
        known.map_or(Meaning::Other, |(_, meaning)| *meaning)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The crate keeps the number to itself, except in this text: `Response code value: 0x9a2`.
        let text = self.0.source().map(ToString::to_string).unwrap_or_default();
        let number = text.rsplit(' ').next().unwrap_or_default();
        match self.0.kind() {
            // Of the codes above this only those of the TPM itself are described; the stack's would get words of others.
            Some(_) if number.len() <= 5 => write!(f, "{}, {number}", self.0),
            _ => write!(f, "response code {number}"),
        }
    }
}

/// What the crate reports: a code, or that it could not make sense of something.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    Code(Code),
    Wrapper(tss_esapi::WrapperErrorKind),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Tss2Error(code) => Self::Code(Code(code)),
            Error::WrapperError(kind) => Self::Wrapper(kind),
        }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl Refusal {
    pub(super) fn meaning(self) -> Meaning {
        match self {
            Self::Code(code) => code.meaning(),
            Self::Wrapper(_) => Meaning::Other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(f),
            Self::Wrapper(kind) => kind.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_meanings_and_words() {
        assert_eq!(Code::new(0x922).meaning(), Meaning::Later);
        assert_eq!(Code::new(0x126).meaning(), Meaning::Other);
        assert_eq!(Code::new(0xa_000a).meaning(), Meaning::Disconnected);
        let text = Code::new(0x14b).to_string();
        assert!(text.ends_with(", 0x14b") && text.len() > 10, "{text}");
        assert_eq!(Code::new(0xa_000a).to_string(), "response code 0xa000a");
    }
}
