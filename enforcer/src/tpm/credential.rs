//! `TPM2_MakeCredential` in software: a secret that only the TPM with a given endorsement key opens, and only while it
//! holds the named attestation key (TCG TPM 2.0 Library, Part 1: 24 "Credential Protection", C.6.4).
#![forbid(unsafe_code)]

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use hmac::{Hmac, Mac as _};
use p256::{PublicKey, ecdh::EphemeralSecret, elliptic_curve::Generate as _};
use sha2::{Digest as _, Sha256};

use super::{
    Digest, Name,
    wire::{ECC, FIXED, Malformed, NIST_P256, NULL, Point, RESTRICTED, Reader, SHA256},
};

/// `TPM_ALG_AES`, `TPM_ALG_CFB`.
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;

/// `TPMA_OBJECT`: needs its policy for everything; decrypts.
const ADMIN_WITH_POLICY: u32 = 1 << 7;
const DECRYPT: u32 = 1 << 17;

/// `authPolicy` of endorsement keys: `PolicySecret` of the endorsement hierarchy (TCG EK Credential Profile, policy A).
const ENDORSEMENT_POLICY: Digest = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// The point of an endorsement key, from its `TPMT_PUBLIC`: the TCG's low-range template for P-256.
pub(super) fn endorsement_key(public: &[u8]) -> Result<Point, Malformed> {
    let mut reader = Reader::new(public);
    reader.expect(&[ECC, SHA256])?;
    if reader.u32()? != FIXED | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT
        || reader.sized()? != ENDORSEMENT_POLICY
    {
        return Err(Malformed);
    }
    // AES-128-CFB protects what is encrypted to it; no scheme, curve, no derivation.
    reader.expect(&[AES, 128, CFB, NULL, NIST_P256, NULL])?;
    let point = Point::read(&mut reader)?;
    reader.end()?;
    Ok(point)
}

/// What the TPM gets.
pub(super) struct Challenge {
    /// `TPMS_ID_OBJECT`: the secret, encrypted, and its integrity value.
    pub(super) blob: Vec<u8>,
    /// `TPMS_ECC_POINT`: the other half of the key agreement.
    pub(super) secret: Vec<u8>,
}

/// Why nothing can be wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("the endorsement key is not a point on the curve")]
    NotOnCurve,
    #[error("no random bytes")]
    Random,
}

/// Wraps a secret.
pub(super) fn wrap(
    secret: &Digest,
    endorsement: Point,
    attestation: &Name,
) -> Result<Challenge, CredentialError> {
    let endorsement_key =
        PublicKey::from_sec1_bytes(&endorsement.to_sec1()).map_err(|_| CredentialError::NotOnCurve)?;
    let ephemeral = EphemeralSecret::try_generate().map_err(|_| CredentialError::Random)?;
    let point = p256::Sec1Point::from(ephemeral.public_key());
    // Uncompressed: a tag, then the coordinates.
    let (x, y) = point.as_bytes()[1..].split_at(32);
    let shared = ephemeral.diffie_hellman(&endorsement_key);
    let seed = kdf_e(shared.raw_secret_bytes(), b"IDENTITY\0", x, &endorsement.x);
    Ok(Challenge { blob: protect(secret, &seed, attestation), secret: [sized(x), sized(y)].concat() })
}

/// `TPMS_ID_OBJECT` under a seed that both sides know.
fn protect(secret: &Digest, seed: &Digest, attestation: &Name) -> Vec<u8> {
    let [key, _] = halves(kdf_a(seed, b"STORAGE\0", attestation, 128));
    let mut identity = sized(secret);
    cfb(&key, &mut identity);
    let key = kdf_a(seed, b"INTEGRITY\0", &[], 256);
    let integrity = mac(&key, &[&identity, attestation]);
    [sized(&integrity), identity].concat()
}

/// A `TPM2B`; all of ours are short.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes(), bytes].concat()
}

fn halves(digest: Digest) -> [[u8; 16]; 2] {
    let mut halves = [[0; 16]; 2];
    halves[0].copy_from_slice(&digest[..16]);
    halves[1].copy_from_slice(&digest[16..]);
    halves
}

/// `KDFe` for 256 bits: one round of SHA-256. The label ends with a zero byte.
fn kdf_e(shared: &[u8], label: &[u8], ours: &[u8], theirs: &[u8]) -> Digest {
    let hash = Sha256::new().chain_update(1_u32.to_be_bytes());
    hash.chain_update(shared).chain_update(label).chain_update(ours).chain_update(theirs).finalize().into()
}

/// `KDFa` for up to 256 bits: one round of HMAC-SHA-256. The label ends with a zero byte.
fn kdf_a(key: &Digest, label: &[u8], context: &[u8], bits: u32) -> Digest {
    mac(key, &[&1_u32.to_be_bytes(), label, context, &bits.to_be_bytes()])
}

fn mac(key: &Digest, parts: &[&[u8]]) -> Digest {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// AES-128 in cipher feedback mode, from an initial value of zeros.
fn cfb(key: &[u8; 16], data: &mut [u8]) {
    let cipher = aes::Aes128::new(&(*key).into());
    let mut feedback = [0; 16];
    for chunk in data.chunks_mut(16) {
        let mut block = feedback.into();
        cipher.encrypt_block(&mut block);
        chunk.iter_mut().zip(block.iter()).for_each(|(byte, stream)| *byte ^= stream);
        feedback[..chunk.len()].copy_from_slice(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(digits: &str) -> [u8; N] {
        let digit = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(digit)
    }

    #[test]
    fn cipher_feedback_starts_with_the_cipher_of_zeros() {
        // Key and its cipher of zeros from RFC 4493, section 4.
        let key = bytes::<16>("2b7e151628aed2a6abf7158809cf4f3c");
        let mut data = [0; 20];
        cfb(&key, &mut data);
        let first = bytes::<16>("7df76b0c1ab899b33e42f047b91b546f");
        assert_eq!(data[..16], first);
        // The next block's stream is E(first block's ciphertext).
        let mut block = first.into();
        aes::Aes128::new(&key.into()).encrypt_block(&mut block);
        assert_eq!(data[16..], block[..4]);
    }

    #[test]
    fn an_endorsement_key_is_read_from_one_template_only() {
        let mut public = vec![0, 0x23, 0, 0x0b, 0, 3, 0, 0xb2, 0, 32];
        public.extend(ENDORSEMENT_POLICY);
        public.extend([0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10]);
        let template = public.len();
        for coordinate in [[1; 32], [2; 32]] {
            public.extend([0, 32]);
            public.extend(coordinate);
        }
        assert_eq!(endorsement_key(&public), Ok(Point { x: [1; 32], y: [2; 32] }));
        for len in 0..public.len() {
            assert_eq!(endorsement_key(&public[..len]), Err(Malformed), "{len} bytes");
        }
        for bit in 0..template * 8 {
            let mut other = public.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(endorsement_key(&other), Err(Malformed), "bit {bit}");
        }
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let off = Point { x: [1; 32], y: [1; 32] };
        assert_eq!(wrap(&[0; 32], off, &[0; 34]).err(), Some(CredentialError::NotOnCurve));
    }
}
