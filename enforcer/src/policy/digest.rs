//! What files hold, as policies and events write it: SHA-256 digests as 64 hexadecimal digits, fs-verity digests as
//! `sha256:` and 64 digits.

use std::{fmt, io, str::FromStr};

use enforcer_common::{
    abi::{Digest, Measure, digest_of},
    decide::Contents,
};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a file's content, or of the description of it that fs-verity keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not 64 digits.
    #[error("a SHA-256 digest has 64 hexadecimal digits, this has {0} characters")]
    Length(usize),
    /// An fs-verity digest without its algorithm, or with another.
    #[error(
        "an fs-verity digest is `{PREFIX}` and 64 hexadecimal digits; this does not start with `{PREFIX}`"
    )]
    Algorithm,
    /// Something else between them.
    #[error("`{found}` is no hexadecimal digit")]
    Digit {
        /// Its place, in bytes.
        at: usize,
        /// What it is.
        found: char,
    },
}

/// How an fs-verity digest starts: with its algorithm. Those made with SHA-512 cannot be compared.
pub(super) const PREFIX: &str = "sha256:";

/// A content that a program may have, by one of its digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pinned {
    /// Which.
    pub measure: Measure,
    /// The digest.
    pub digest: ContentDigest,
}

impl Pinned {
    /// Reads a digest as `sha256sum` or `fsverity digest` prints it.
    ///
    /// # Errors
    /// [`DigestError`].
    pub fn parse(measure: Measure, text: &str) -> Result<Self, DigestError> {
        let digest = match measure {
            Measure::Sha256 => text.parse()?,
            Measure::FsVerity => fsverity(text)?,
        };
        Ok(Self { measure, digest })
    }
}

/// As the value of its key in a policy: the digest with what its kind puts before it.
impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::Sha256 => write!(f, "{}", self.digest),
            Measure::FsVerity => write!(f, "{PREFIX}{}", self.digest),
        }
    }
}

/// Reads an fs-verity digest.
///
/// # Errors
/// [`DigestError`].
pub fn fsverity(text: &str) -> Result<ContentDigest, DigestError> {
    let digits = text.strip_prefix(PREFIX).ok_or(DigestError::Algorithm)?;
    digits.parse().map_err(|error| match error {
        DigestError::Digit { at, found } => DigestError::Digit { at: at + PREFIX.len(), found },
        other => other,
    })
}

/// What is known of what a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// SHA-256 of all of it.
    pub sha256: Option<ContentDigest>,
    /// Its fs-verity digest.
    pub fsverity: Option<ContentDigest>,
}

impl Known {
    /// The SHA-256 alone.
    #[must_use]
    pub const fn sha256(digest: ContentDigest) -> Self {
        Self { sha256: Some(digest), fsverity: None }
    }

    /// Whether nothing is known.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.sha256.is_none() && self.fsverity.is_none()
    }

    /// What is known, each as a policy would list it; the stronger first: no read of a file with fs-verity returns anything
    /// else.
    pub fn pins(&self) -> impl Iterator<Item = Pinned> {
        let pinned = |measure, digest: Option<_>| digest.map(|digest| Pinned { measure, digest });
        pinned(Measure::FsVerity, self.fsverity).into_iter().chain(pinned(Measure::Sha256, self.sha256))
    }

    /// Hands it over in the form that the decision takes.
    pub fn with_contents<T>(&self, decide: impl FnOnce(Contents<'_>) -> T) -> T {
        let [sha256, fsverity]: [Option<Digest>; 2] =
            [self.sha256, self.fsverity].map(|digest| digest.map(|digest| digest_of(digest.0)));
        decide(Contents::of(sha256.as_ref(), fsverity.as_ref()))
    }
}

impl ContentDigest {
    /// Digests everything that is read.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn of(mut content: impl io::Read) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(Self(hash.finalize().into())),
                Ok(len) => hash.update(buffer.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl FromStr for ContentDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if let Some((at, found)) = text.char_indices().find(|(_, c)| !c.is_ascii_hexdigit()) {
            return Err(DigestError::Digit { at, found });
        }
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return Err(DigestError::Length(text.len()));
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
            let (high, low) = (value(digits[0]).unwrap_or(0), value(digits[1]).unwrap_or(0));
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(ContentDigest::of(&b""[..]).unwrap().to_string(), empty);
        assert_eq!(empty.parse::<ContentDigest>().unwrap().to_string(), empty);
        assert_eq!(empty.to_uppercase().parse::<ContentDigest>().unwrap().to_string(), empty);
        assert_eq!("e3b0".parse::<ContentDigest>(), Err(DigestError::Length(4)));
        assert_eq!("".parse::<ContentDigest>(), Err(DigestError::Length(0)));
        let prefixed = format!("sha256:{empty}");
        assert_eq!(prefixed.parse::<ContentDigest>(), Err(DigestError::Digit { at: 0, found: 's' }));
        assert_eq!("é".parse::<ContentDigest>(), Err(DigestError::Digit { at: 0, found: 'é' }));
        assert_eq!(Pinned::parse(Measure::FsVerity, &prefixed).unwrap().to_string(), prefixed);
        assert_eq!(fsverity(empty), Err(DigestError::Algorithm));
        assert_eq!(fsverity(&format!("sha512:{empty}")), Err(DigestError::Algorithm));
        assert_eq!(fsverity("sha256:e3b0"), Err(DigestError::Length(4)));
        assert_eq!(fsverity("sha256:g"), Err(DigestError::Digit { at: 7, found: 'g' }));
    }
}
