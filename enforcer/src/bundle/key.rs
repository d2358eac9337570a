//! Keys that sign policies: ECDSA on P-256 with SHA-256, which TPMs, HSMs and cloud key services all have.
#![forbid(unsafe_code)]

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use p256::{
    ecdsa::{
        Signature, SigningKey, VerifyingKey,
        signature::hazmat::{PrehashSigner as _, PrehashVerifier as _},
    },
    elliptic_curve::Generate as _,
    pkcs8::{
        DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
    },
};
use sha2::{Digest as _, Sha256};

use super::approval::{self, Digest, Name};

/// Names a key: SHA-256 of its uncompressed point, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot write the key {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Other users may read a secret.
    #[error("{} can be read by others (mode {mode:04o}); `chmod 600` it", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a key of this kind.
    #[error("not a {expected} of an ECDSA P-256 key in PEM: {reason}")]
    Malformed {
        /// What was wanted.
        expected: &'static str,
        /// Why it is not.
        reason: String,
    },
    /// The kernel gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

/// The half that everybody may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From a `PUBLIC KEY` in PEM (SPKI).
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        VerifyingKey::from_public_key_pem(pem.trim())
            .map(Self)
            .map_err(|error| KeyError::Malformed { expected: "public half", reason: error.to_string() })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text =
            fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })?;
        Self::from_pem(&text)
    }

    /// As PEM.
    ///
    /// # Errors
    /// None that a valid key gives.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| KeyError::Malformed { expected: "public half", reason: error.to_string() })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(hex::encode(Sha256::digest(self.0.to_sec1_point(false).as_bytes())))
    }

    /// Whether a DER signature of a message is this key's.
    #[must_use]
    pub fn signed(&self, message: &[u8], der: &[u8]) -> bool {
        self.signed_digest(&Sha256::digest(message).into(), der)
    }

    /// Whether a DER signature of a message with this digest is this key's.
    #[must_use]
    pub fn signed_digest(&self, digest: &Digest, der: &[u8]) -> bool {
        Signature::from_der(der).is_ok_and(|signature| self.0.verify_prehash(digest, &signature).is_ok())
    }

    /// The coordinates of its point.
    #[must_use]
    pub fn coordinates(&self) -> ([u8; 32], [u8; 32]) {
        let point = self.0.to_sec1_point(false);
        let bytes = point.as_bytes();
        let coordinate = |at: usize| {
            let mut out = [0; 32];
            out.copy_from_slice(&bytes[at..at + 32]);
            out
        };
        // An uncompressed point is a tag and two coordinates.
        (coordinate(1), coordinate(33))
    }

    /// The Name a TPM gives it.
    #[must_use]
    pub fn tpm_name(&self) -> Name {
        let (x, y) = self.coordinates();
        approval::verification_key_name(&x, &y)
    }
}

/// The half that signs.
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().id())
    }
}

impl SecretKey {
    /// A new one.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        SigningKey::try_generate().map(Self).map_err(|error| KeyError::Random(error.to_string()))
    }

    /// From a `PRIVATE KEY` in PEM (PKCS#8).
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(pem.trim())
            .map(Self)
            .map_err(|error| KeyError::Malformed { expected: "private half", reason: error.to_string() })
    }

    /// Reads a file that nobody but its owner may read.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        Self::from_pem(&io::read_to_string(file).map_err(failed)?)
    }

    /// Writes a new file that nobody but its owner may read. A file that is there is left alone.
    ///
    /// # Errors
    /// [`KeyError::Write`].
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let pem = self
            .0
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| KeyError::Malformed { expected: "private half", reason: error.to_string() })?;
        let failed = |source| KeyError::Write { path: path.to_owned(), source };
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// The other half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// Signs a message; DER.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_digest(&Sha256::digest(message).into()).to_der().as_bytes().to_vec()
    }

    /// Signs what has this digest.
    pub(super) fn sign_digest(&self, digest: &Digest) -> Signature {
        // Fails for digests shorter than half the curve's size only; this one is as long as it.
        #[expect(clippy::expect_used, reason = "the digest has the curve's own size")]
        self.0.sign_prehash(digest).expect("a 32-byte digest can be signed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ops.key");
        let key = SecretKey::generate().unwrap();
        key.write_new(&path).unwrap();
        assert_eq!(SecretKey::read(&path).unwrap().public(), key.public());
        assert_eq!(PublicKey::from_pem(&key.public().to_pem().unwrap()).unwrap(), key.public());
        assert!(matches!(key.write_new(&path), Err(KeyError::Write { .. })), "a key was overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SecretKey::read(&path), Err(KeyError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_signature_is_one_keys_over_one_message() {
        let (key, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let signature = key.sign(b"message");
        assert!(key.public().signed(b"message", &signature));
        assert!(!key.public().signed(b"massage", &signature));
        assert!(!other.public().signed(b"message", &signature));
        for at in 0..signature.len() {
            let mut broken = signature.clone();
            broken[at] ^= 1;
            assert!(!key.public().signed(b"message", &broken), "byte {at}");
        }
        assert!(!key.public().signed(b"message", b""));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "ssh-ed25519 AAAA"] {
            assert!(matches!(PublicKey::from_pem(text), Err(KeyError::Malformed { .. })), "{text}");
            assert!(matches!(SecretKey::from_pem(text), Err(KeyError::Malformed { .. })), "{text}");
        }
    }
}
