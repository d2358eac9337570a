//! SHA-256 digests as policies and events write them: 64 hexadecimal digits.

use std::{fmt, io, str::FromStr};

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not 64 digits.
    #[error("a SHA-256 digest has 64 hexadecimal digits, this has {0} characters")]
    Length(usize),
    /// Something else between them.
    #[error("`{found}` is no hexadecimal digit")]
    Digit {
        /// Its place, in bytes.
        at: usize,
        /// What it is.
        found: char,
    },
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
    }
}
