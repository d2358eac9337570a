//! In place of `certificate` in builds that cannot reach a TPM, and so never have an [`Identity`].
#![forbid(unsafe_code)]

use super::{Digest, Identity};

/// There is none.
#[derive(Clone, Copy, Debug)]
pub enum Certificate {}

/// Why.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum CertificateError {
    /// This build has no TPM.
    #[error("this build cannot read certificates")]
    Missing {},
    /// Never.
    #[error("this build cannot read certificates")]
    Unreadable(std::convert::Infallible),
    /// Never.
    #[error("this build cannot read certificates")]
    OtherKey,
}

impl Certificate {
    /// # Errors
    /// Always.
    pub const fn of(_: &Identity) -> Result<Self, CertificateError> {
        Err(CertificateError::Missing {})
    }

    /// # Errors
    /// Never.
    pub const fn sha256(&self) -> Result<Digest, CertificateError> {
        match *self {}
    }

    /// Never.
    #[must_use]
    pub const fn issuer(&self) -> String {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub const fn verify(&self, _: &[(String, Vec<u8>)]) -> Result<(), CertificateError> {
        match *self {}
    }
}
