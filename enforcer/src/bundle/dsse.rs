//! DSSE envelopes: signatures over a payload and its type (<https://github.com/secure-systems-lab/dsse>, v1.0).
//!
//! The payload is not looked into before enough known keys have signed it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::key::{KeyId, PublicKey, SecretKey};

/// What our payloads are.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// More signatures than anybody needs.
const MAX_SIGNATURES: usize = 32;

/// The envelope as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Type of the payload.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The payload in base64.
    pub payload: String,
    /// Signatures over both.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Whose it claims to be; a hint only.
    #[serde(default)]
    pub keyid: String,
    /// DER in base64.
    pub sig: String,
}

/// An envelope that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Signed as something else.
    #[error("it is signed as {found:?}, not as {PAYLOAD_TYPE:?}")]
    PayloadType {
        /// What the envelope says.
        found: String,
    },
    /// Not base64.
    #[error("the payload is not base64: {0}")]
    Payload(String),
    /// Too many to look at.
    #[error("{0} signatures; {MAX_SIGNATURES} are looked at, at most")]
    TooMany(usize),
    /// Too few by keys that count.
    #[error("{}", threshold(*valid, *needed, unknown))]
    Threshold {
        /// Distinct known keys whose signatures are right.
        valid: usize,
        /// How many it takes.
        needed: usize,
        /// Ids of signatures that no known key made: of other keys, or wrong.
        unknown: Vec<String>,
    },
}

fn threshold(valid: usize, needed: usize, unknown: &[String]) -> String {
    let mut text = format!("{valid} of {needed} signatures that the anchors ask for are right");
    for id in unknown {
        let id = if id.is_empty() { "without a key id" } else { id };
        text.push_str(&format!("; the one {id} is by no key of the anchors, or wrong"));
    }
    text
}

/// DSSE's pre-authentication encoding: what is signed.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// An envelope around a payload, without signatures yet.
    #[must_use]
    pub fn around(payload: &[u8]) -> Self {
        Self { payload_type: PAYLOAD_TYPE.into(), payload: BASE64.encode(payload), signatures: Vec::new() }
    }

    /// Adds a key's signature, in place of an earlier one of the same key.
    ///
    /// # Errors
    /// [`EnvelopeError::Payload`].
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), EnvelopeError> {
        let message = pre_authentication_encoding(&self.payload_type, &self.unverified_payload()?);
        let keyid = key.public().id().to_string();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature { keyid, sig: BASE64.encode(key.sign(&message)) });
        Ok(())
    }

    /// The payload, which may be anybody's.
    ///
    /// # Errors
    /// [`EnvelopeError::Payload`].
    pub fn unverified_payload(&self) -> Result<Vec<u8>, EnvelopeError> {
        BASE64.decode(&self.payload).map_err(|error| EnvelopeError::Payload(error.to_string()))
    }

    /// The payload, and who of these keys signed it, if enough did.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn open(&self, keys: &[&PublicKey], needed: usize) -> Result<(Vec<u8>, Vec<KeyId>), EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType { found: self.payload_type.clone() });
        }
        if self.signatures.len() > MAX_SIGNATURES {
            return Err(EnvelopeError::TooMany(self.signatures.len()));
        }
        let payload = self.unverified_payload()?;
        let message = pre_authentication_encoding(&self.payload_type, &payload);
        let keys: BTreeMap<KeyId, &PublicKey> = keys.iter().map(|key| (key.id(), *key)).collect();
        let (mut signers, mut unknown) = (Vec::new(), Vec::new());
        for signature in &self.signatures {
            let der = BASE64.decode(&signature.sig).unwrap_or_default();
            // Whatever the hint says: a key signed, or it did not.
            match keys.iter().find(|(_, key)| key.signed(&message, &der)) {
                Some((id, _)) => signers.push(id.clone()),
                None => unknown.push(signature.keyid.clone()),
            }
        }
        signers.sort();
        signers.dedup();
        // A threshold of nothing would let anything pass.
        if signers.len() < needed.max(1) {
            return Err(EnvelopeError::Threshold { valid: signers.len(), needed: needed.max(1), unknown });
        }
        Ok((payload, signers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_specifications() {
        // From protocol.md of the specification.
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn enough_distinct_keys_open_it() {
        let keys: Vec<SecretKey> = (0..3).map(|_| SecretKey::generate().unwrap()).collect();
        let public: Vec<PublicKey> = keys.iter().map(SecretKey::public).collect();
        let known: Vec<&PublicKey> = public.iter().take(2).collect();
        let mut envelope = Envelope::around(b"payload");
        let valid =
            |envelope: &Envelope, needed| envelope.open(&known, needed).map(|(_, signers)| signers.len());
        assert!(matches!(valid(&envelope, 0), Err(EnvelopeError::Threshold { valid: 0, needed: 1, .. })));
        envelope.sign(&keys[0]).unwrap();
        assert_eq!(valid(&envelope, 1), Ok(1));
        // The same key twice is one key, and a stranger is nobody.
        envelope.signatures.push(envelope.signatures[0].clone());
        envelope.sign(&keys[2]).unwrap();
        let error = valid(&envelope, 2).unwrap_err();
        let stranger = public[2].id().to_string();
        assert_eq!(error, EnvelopeError::Threshold { valid: 1, needed: 2, unknown: vec![stranger] });
        envelope.sign(&keys[1]).unwrap();
        assert_eq!(envelope.open(&known, 2).unwrap().0, b"payload");
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let key = SecretKey::generate().unwrap();
        let public = key.public();
        let mut envelope = Envelope::around(b"payload");
        envelope.sign(&key).unwrap();
        let opens = |envelope: &Envelope| envelope.open(&[&public], 1);
        assert!(opens(&envelope).is_ok());
        let mut other = envelope.clone();
        other.payload = BASE64.encode(b"payloae");
        assert!(matches!(opens(&other), Err(EnvelopeError::Threshold { .. })));
        let mut other = envelope.clone();
        other.payload_type = "application/json".into();
        assert!(matches!(opens(&other), Err(EnvelopeError::PayloadType { .. })));
        let mut other = envelope.clone();
        other.payload.push('!');
        assert!(matches!(opens(&other), Err(EnvelopeError::Payload(_))));
        let mut other = envelope.clone();
        other.signatures = vec![envelope.signatures[0].clone(); MAX_SIGNATURES + 1];
        assert_eq!(opens(&other), Err(EnvelopeError::TooMany(MAX_SIGNATURES + 1)));
        // The hint does not count.
        envelope.signatures[0].keyid.clear();
        assert!(opens(&envelope).is_ok());
    }
}
