//! The only way for a policy to become installable.
#![forbid(unsafe_code)]

use std::{fmt, ops::Deref};

use sha2::{Digest as _, Sha256};

use super::{
    anchors::Consent,
    compile::{CompileError, Compiled, compile},
};
use crate::{
    admission::Admitted,
    policy::{compile as lower, image::PolicyImage},
};

/// The bytes of a policy and where they came from. Nothing is known about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// Where they came from, for people: a path.
    pub origin: String,
    /// What was read.
    pub bytes: Vec<u8>,
}

/// Consent to policies that nobody signed: of whoever runs the command, and of the machine's anchors.
///
/// Made from the flag `--insecure-unsigned` and anchors with `unsigned = "allow"`, and from nothing else.
#[derive(Clone, Copy, Debug)]
pub struct InsecureUnsigned(());

impl InsecureUnsigned {
    /// Consent, if both gave it.
    #[must_use]
    pub fn of(flag: bool, anchors: Consent) -> Option<Self> {
        (flag && anchors == Consent::Allow).then_some(Self(()))
    }
}

/// On what grounds a policy is believed to be its author's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// None: root on this host asked for it to be believed.
    Unsigned,
    /// Signed for the state that the TPM says the platform is in.
    Signed(Grounds),
    /// Signed for emergencies.
    BreakGlass(Grounds),
    /// Signed; there is no TPM that could say more.
    SignedOnly(Grounds),
    /// It grants nothing, so it needs no trust.
    DenyAll,
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// The policy.
    pub policy: String,
    /// Its version.
    pub version: u64,
    /// The binding that holds; none without a TPM.
    pub binding: Option<String>,
}

impl Trust {
    /// What was signed, if anything was.
    #[must_use]
    pub const fn grounds(&self) -> Option<&Grounds> {
        match self {
            Self::Signed(grounds) | Self::BreakGlass(grounds) | Self::SignedOnly(grounds) => Some(grounds),
            Self::Unsigned | Self::DenyAll => None,
        }
    }

    /// A word for programs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Signed(_) => "signed",
            Self::BreakGlass(_) => "break-glass",
            Self::SignedOnly(_) => "signed-without-tpm",
            Self::DenyAll => "deny-all",
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        let Some(grounds) = self.grounds() else { return Ok(()) };
        write!(f, " {} version {}", grounds.policy, grounds.version)?;
        grounds.binding.as_ref().map_or(Ok(()), |label| write!(f, ", state {label}"))
    }
}

/// A policy that compiled. Nothing is known about who wrote it.
///
/// Holding one proves that its bytes compiled without errors, and that the image is what exactly those bytes compile to.
#[derive(Clone, Debug)]
pub struct Candidate {
    source: PolicySource,
    compiled: Compiled,
    trust: Trust,
}

impl Candidate {
    /// Compiles a policy.
    ///
    /// # Errors
    /// [`CompileError`] with every mistake in it.
    pub fn compile(source: PolicySource) -> Result<Self, CompileError> {
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
        hex::encode(Sha256::digest(&self.source.bytes))
    }

    /// On what grounds it would be trusted.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
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
}

/// A policy that may be installed.
///
/// Holding one proves what a [`Candidate`] proves, and that the bytes are trusted on the [`Trust`] it says. It does not
/// prove that it fits into the maps, nor that the kernel has every hook it needs: the installer sees to that.
#[derive(Clone, Debug)]
pub struct VerifiedBundle(Candidate);

impl VerifiedBundle {
    /// Accepts bytes that nobody signed.
    ///
    /// # Errors
    /// [`CompileError`] with every mistake in the policy.
    pub fn accept_unsigned(source: PolicySource, _: InsecureUnsigned) -> Result<Self, CompileError> {
        Candidate::compile(source).map(Self)
    }

    /// Accepts what was admitted: the policies of a signed set, for this platform state.
    #[must_use]
    pub fn accept_admitted(admitted: Admitted) -> Vec<Self> {
        let (set, trust) = admitted.into_parts();
        let trusted = |candidate| Self(Candidate { trust: trust.clone(), ..candidate });
        set.into_candidates().into_iter().map(trusted).collect()
    }

    /// Replaces policies by policies for the same workloads that allow nothing: what is left when what should be in force
    /// was refused. It grants nothing, so it takes no proof.
    ///
    /// # Errors
    /// As of [`Compiled::denying_all`].
    pub fn deny_all(candidates: &[Candidate]) -> Result<Vec<Self>, lower::CompileError> {
        let denied = |candidate: &Candidate| {
            let compiled = candidate.compiled.denying_all()?;
            Ok(Self(Candidate { source: candidate.source.clone(), compiled, trust: Trust::DenyAll }))
        };
        candidates.iter().map(denied).collect()
    }

    /// A bundle around an image, for tests of what comes after verification.
    #[cfg(test)]
    pub(crate) fn for_tests(image: PolicyImage, cgroup: &str) -> Self {
        Self::for_tests_around(Compiled::for_tests(image, cgroup))
    }

    /// A bundle around what the compiler made, for tests of what comes after verification.
    #[cfg(test)]
    pub(crate) fn for_tests_around(compiled: Compiled) -> Self {
        let bytes = format!("{:?} {:?}", compiled.image, compiled.policy.selector).into_bytes();
        Self(Candidate {
            source: PolicySource { origin: format!("{}.toml", compiled.image.name), bytes },
            compiled,
            trust: Trust::Unsigned,
        })
    }
}

impl AsRef<Candidate> for Candidate {
    fn as_ref(&self) -> &Candidate {
        self
    }
}

impl AsRef<Candidate> for VerifiedBundle {
    fn as_ref(&self) -> &Candidate {
        &self.0
    }
}

impl Deref for VerifiedBundle {
    type Target = Candidate;

    fn deref(&self) -> &Candidate {
        &self.0
    }
}
