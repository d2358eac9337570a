//! The only way for a policy to become installable.
#![forbid(unsafe_code)]

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::compile::{CompileError, Compiled, compile};
use crate::{kernel::place::hex, policy::image::PolicyImage};

/// The bytes of a policy and where they came from. Nothing is known about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// Where they came from, for people: a path.
    pub origin: String,
    /// What was read.
    pub bytes: Vec<u8>,
}

/// Consent, by whoever runs the command, to policies that nobody signed.
///
/// Made from the flag `--insecure-unsigned` and from nothing else.
#[derive(Clone, Copy, Debug)]
pub struct InsecureUnsigned(());

impl InsecureUnsigned {
    /// Consent, if the flag was given.
    #[must_use]
    pub fn from_flag(given: bool) -> Option<Self> {
        given.then_some(Self(()))
    }
}

/// On what grounds a policy is believed to be its author's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// None: root on this host asked for it to be believed.
    Unsigned,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsigned => "unsigned",
        })
    }
}

/// A policy that may be installed.
///
/// Holding one proves that its bytes compiled without errors, that the image is what exactly those bytes compile to,
/// and that the bytes are trusted on the [`Trust`] it says. It does not prove that it fits into the maps, nor that
/// the kernel has every hook it needs: the installer sees to that.
#[derive(Clone, Debug)]
pub struct VerifiedBundle {
    source: PolicySource,
    compiled: Compiled,
    trust: Trust,
}

impl VerifiedBundle {
    /// Accepts bytes that nobody signed.
    ///
    /// # Errors
    /// [`CompileError`] with every mistake in the policy.
    pub fn accept_unsigned(source: PolicySource, _: InsecureUnsigned) -> Result<Self, CompileError> {
        let compiled = compile(&source)?;
        Ok(Self { source, compiled, trust: Trust::Unsigned })
    }

    /// The policy's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.compiled.image.name
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.source.origin
    }

    /// The exact bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.source.bytes
    }

    /// SHA-256 of the exact bytes, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(&self.source.bytes))
    }

    /// On what grounds it is trusted.
    #[must_use]
    pub const fn trust(&self) -> Trust {
        self.trust
    }

    /// What it compiled to.
    #[must_use]
    pub const fn image(&self) -> &PolicyImage {
        &self.compiled.image
    }

    /// Everything the compiler found out.
    #[must_use]
    pub const fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// A bundle around an image, for tests of what comes after verification.
    #[cfg(test)]
    pub(crate) fn for_tests(image: PolicyImage, cgroup: &str) -> Self {
        let bytes = format!("{image:?} {cgroup}").into_bytes();
        Self {
            source: PolicySource { origin: format!("{}.toml", image.name), bytes },
            compiled: Compiled::for_tests(image, cgroup),
            trust: Trust::Unsigned,
        }
    }
}
