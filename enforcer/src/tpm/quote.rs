//! Quotes, judged without a TPM: here after every boot, and on the machine of whoever wants proof.
//!
//! A quote proves that the TPM which holds one attestation key saw these PCR values after the nonce was chosen. Whose
//! TPM that is, is known from enrolment, where the key's Name was pinned; without that pin anybody can make a quote.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier as _};
use sha2::{Digest as _, Sha256};

use super::{
    Digest, Name, name_of,
    wire::{self, Malformed, Reader},
};
use crate::measured::pcr::{PcrIndex, PcrValue};

/// `TPM_GENERATED_VALUE`: the TPM itself made this structure. A restricted key signs nothing else that starts so.
const GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const QUOTE: u16 = 0x8018;

/// What a TPM answered when it was asked for a quote. Nothing is known about it before it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedQuote {
    /// `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// ECDSA signature over its SHA-256, in DER.
    pub signature: Vec<u8>,
    /// `TPMT_PUBLIC` of the key that signed.
    pub ak_public: Vec<u8>,
}

/// What a verified quote says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Digest over the selected PCRs' values; compare with [`PcrValues::composite`](crate::measured::pcr::PcrValues::composite).
    pub composite: PcrValue,
    /// How often the TPM was reset or lost power. More than at the machine's own start: what PCRs hold may be replayed.
    pub reset_count: u32,
    /// How often it was restarted or resumed since.
    pub restart_count: u32,
    /// Milliseconds it was powered, in all.
    pub clock_ms: u64,
    /// Whether no higher value of the clock was ever reported. A TPM that lost power unannounced is not sure.
    pub safe: bool,
    /// The TPM's firmware.
    pub firmware_version: u64,
}

/// Why a quote proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Another TPM, or another key of the same one.
    #[error(
        "the quote is by the key {}, not by the enrolled one {}: this is another TPM, or its endorsement hierarchy was \
         changed; enrol again if that was you",
        hex::encode(found),
        hex::encode(expected)
    )]
    OtherKey {
        /// The pinned Name.
        expected: Name,
        /// The Name of the key that came with the quote.
        found: Name,
    },
    /// The key may sign what the TPM did not make, or is of another kind.
    #[error(
        "the attestation key is not a restricted P-256 signing key that is fixed to its TPM: enrol with one that is"
    )]
    Key,
    /// Changed on the way, or signed by another key.
    #[error("the quote's signature is not by its attestation key: it was changed on the way")]
    Signature,
    /// Not what a TPM signs when it is asked for a quote.
    #[error("what the attestation key signed is not a quote")]
    Malformed,
    /// A replay.
    #[error("the quote answers another nonce: it was made at another time, for somebody else")]
    Nonce,
    /// Says something about other registers than asked for.
    #[error("the quote is about {} instead of {}", registers(found), registers(expected))]
    Selection {
        /// What was asked for.
        expected: BTreeSet<PcrIndex>,
        /// What the quote is about.
        found: BTreeSet<PcrIndex>,
    },
}

impl From<Malformed> for QuoteError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl SignedQuote {
    /// Whether the pinned key quoted exactly these registers of the SHA-256 bank for this nonce, and what it said. The
    /// caller compares the composite with values it knows, and the counters with those of this boot.
    ///
    /// # Errors
    /// [`QuoteError`].
    pub fn verify(
        &self,
        ak_name: &Name,
        nonce: &Digest,
        pcrs: &BTreeSet<PcrIndex>,
    ) -> Result<Quoted, QuoteError> {
        let found = name_of(&self.ak_public);
        if found != *ak_name {
            return Err(QuoteError::OtherKey { expected: *ak_name, found });
        }
        let point = wire::attestation_key(&self.ak_public).map_err(|Malformed| QuoteError::Key)?;
        let key = VerifyingKey::from_sec1_bytes(&point.to_sec1()).map_err(|_| QuoteError::Key)?;
        let signature = Signature::from_der(&self.signature).map_err(|_| QuoteError::Signature)?;
        key.verify_prehash(&Sha256::digest(&self.attest), &signature).map_err(|_| QuoteError::Signature)?;
        let attest = Attest::parse(&self.attest)?;
        if attest.extra_data != nonce {
            return Err(QuoteError::Nonce);
        }
        if attest.pcrs != *pcrs {
            return Err(QuoteError::Selection { expected: pcrs.clone(), found: attest.pcrs });
        }
        Ok(attest.quoted)
    }
}

/// A parsed `TPMS_ATTEST` of a quote.
struct Attest<'b> {
    extra_data: &'b [u8],
    pcrs: BTreeSet<PcrIndex>,
    quoted: Quoted,
}

impl<'b> Attest<'b> {
    fn parse(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != GENERATED || reader.u16()? != QUOTE {
            return Err(Malformed);
        }
        // The signing key's qualified Name: says where in the hierarchy it is; its own Name is pinned.
        reader.sized()?;
        let extra_data = reader.sized()?;
        let clock_ms = reader.u64()?;
        let reset_count = reader.u32()?;
        let restart_count = reader.u32()?;
        let safe = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed),
        };
        let firmware_version = reader.u64()?;
        let pcrs = selection(&mut reader)?;
        let composite = PcrValue(reader.sized()?.try_into().map_err(|_| Malformed)?);
        reader.end()?;
        let quoted = Quoted { composite, reset_count, restart_count, clock_ms, safe, firmware_version };
        Ok(Self { extra_data, pcrs, quoted })
    }
}

/// Whether these bytes are a `TPMS_ATTEST` of a quote. Says nothing about who made them; for fuzzing alone.
#[cfg(fuzzing)]
#[must_use]
pub fn is_quote(attest: &[u8]) -> bool {
    Attest::parse(attest).is_ok()
}

/// `TPML_PCR_SELECTION` of exactly one bank, SHA-256. A second bank would make the composite one over other values.
fn selection(reader: &mut Reader<'_>) -> Result<BTreeSet<PcrIndex>, Malformed> {
    if reader.u32()? != 1 || reader.u16()? != wire::SHA256 {
        return Err(Malformed);
    }
    let len = reader.u8()?;
    let octets = reader.take(usize::from(len))?;
    let bits = octets
        .iter()
        .zip(0u32..)
        .flat_map(|(octet, at)| (0..8).filter(move |bit| octet >> bit & 1 == 1).map(move |bit| at * 8 + bit));
    bits.map(|number| PcrIndex::try_from(number).map_err(|_| Malformed)).collect()
}

fn registers(pcrs: &BTreeSet<PcrIndex>) -> String {
    if pcrs.is_empty() {
        return "no PCR".to_owned();
    }
    let numbers: Vec<String> = pcrs.iter().map(ToString::to_string).collect();
    format!("PCR {}", numbers.join("+"))
}

#[cfg(test)]
mod tests {
    use p256::{
        ecdsa::{SigningKey, signature::hazmat::PrehashSigner as _},
        elliptic_curve::Generate as _,
    };
    use proptest::prelude::*;

    use super::{super::wire::Point, *};

    const NONCE: Digest = [9; 32];

    fn pcrs(numbers: &[u8]) -> BTreeSet<PcrIndex> {
        numbers.iter().map(|number| PcrIndex::new(*number).unwrap()).collect()
    }

    /// The bytes of a quote as a TPM lays them out.
    fn attest(nonce: &[u8], selection: &[u8], composite: [u8; 32]) -> Vec<u8> {
        let mut bytes = vec![0xff, b'T', b'C', b'G', 0x80, 0x18, 0, 2, 1, 2];
        bytes.extend([0, u8::try_from(nonce.len()).unwrap()]);
        bytes.extend(nonce);
        bytes.extend(1_000_u64.to_be_bytes());
        bytes.extend(3_u32.to_be_bytes());
        bytes.extend(2_u32.to_be_bytes());
        bytes.push(1);
        bytes.extend(0x2023_0001_u64.to_be_bytes());
        bytes.extend(selection);
        bytes.extend([0, 32]);
        bytes.extend(composite);
        bytes
    }

    const SEVEN_AND_ELEVEN: [u8; 10] = [0, 0, 0, 1, 0, 0x0b, 3, 0x80, 0x08, 0];

    fn signed(key: &SigningKey, attest: Vec<u8>) -> (SignedQuote, Name) {
        let point = key.verifying_key().to_sec1_point(false);
        let (mut x, mut y) = ([0; 32], [0; 32]);
        x.copy_from_slice(&point.as_bytes()[1..33]);
        y.copy_from_slice(&point.as_bytes()[33..]);
        let ak_public = wire::tests::attestation_public(Point { x, y });
        let signature: Signature = key.sign_prehash(&Sha256::digest(&attest)).unwrap();
        let name = name_of(&ak_public);
        (SignedQuote { attest, signature: signature.to_der().as_bytes().to_vec(), ak_public }, name)
    }

    #[test]
    fn a_quote_says_what_the_tpm_saw() {
        let (quote, name) = signed(&SigningKey::generate(), attest(&NONCE, &SEVEN_AND_ELEVEN, [5; 32]));
        let quoted = quote.verify(&name, &NONCE, &pcrs(&[7, 11])).unwrap();
        let expected = Quoted {
            composite: PcrValue([5; 32]),
            reset_count: 3,
            restart_count: 2,
            clock_ms: 1000,
            safe: true,
            firmware_version: 0x2023_0001,
        };
        assert_eq!(quoted, expected);
    }

    #[test]
    fn no_bit_of_a_quote_can_change() {
        let (quote, name) = signed(&SigningKey::generate(), attest(&NONCE, &SEVEN_AND_ELEVEN, [5; 32]));
        let verify = |quote: &SignedQuote| quote.verify(&name, &NONCE, &pcrs(&[7, 11]));
        assert!(verify(&quote).is_ok());
        for bit in 0..quote.attest.len() * 8 {
            let mut other = quote.clone();
            other.attest[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&other), Err(QuoteError::Signature), "bit {bit} of the statement");
        }
        for bit in 0..quote.signature.len() * 8 {
            let mut other = quote.clone();
            other.signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&other), Err(QuoteError::Signature), "bit {bit} of the signature");
        }
        for bit in 0..quote.ak_public.len() * 8 {
            let mut other = quote.clone();
            other.ak_public[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(verify(&other), Err(QuoteError::OtherKey { .. })), "bit {bit} of the key");
        }
    }

    #[test]
    fn well_signed_statements_are_refused_for_what_they_say() {
        let key = SigningKey::generate();
        let verify = |attest: Vec<u8>| {
            let (quote, name) = signed(&key, attest);
            quote.verify(&name, &NONCE, &pcrs(&[7, 11]))
        };
        assert!(verify(attest(&NONCE, &SEVEN_AND_ELEVEN, [5; 32])).is_ok());
        assert_eq!(verify(attest(&[8; 32], &SEVEN_AND_ELEVEN, [5; 32])), Err(QuoteError::Nonce));
        assert_eq!(verify(attest(&NONCE[..31], &SEVEN_AND_ELEVEN, [5; 32])), Err(QuoteError::Nonce));
        for (selection, found) in [
            (&[0, 0, 0, 1, 0, 0x0b, 3, 0x80, 0, 0][..], pcrs(&[7])),
            (&[0, 0, 0, 1, 0, 0x0b, 3, 0x80, 0x18, 0], pcrs(&[7, 11, 12])),
            (&[0, 0, 0, 1, 0, 0x0b, 0], pcrs(&[])),
        ] {
            let error = QuoteError::Selection { expected: pcrs(&[7, 11]), found };
            assert_eq!(verify(attest(&NONCE, selection, [5; 32])), Err(error));
        }
        let malformed: [&[u8]; 4] = [
            // The SHA-1 bank; two banks; none; a register that does not exist.
            &[0, 0, 0, 1, 0, 4, 3, 0x80, 0x08, 0],
            &[0, 0, 0, 2, 0, 4, 3, 0x80, 0x08, 0, 0, 0x0b, 3, 0x80, 0x08, 0],
            &[0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0x0b, 4, 0x80, 0x08, 0, 1],
        ];
        for selection in malformed {
            assert_eq!(
                verify(attest(&NONCE, selection, [5; 32])),
                Err(QuoteError::Malformed),
                "{selection:?}"
            );
        }
        let good = attest(&NONCE, &SEVEN_AND_ELEVEN, [5; 32]);
        for (at, what) in [(0, "not made by a TPM"), (5, "a certification")] {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(verify(other), Err(QuoteError::Malformed), "{what}");
        }
        assert_eq!(verify([&good[..], &[0]].concat()), Err(QuoteError::Malformed), "a byte too many");
    }

    #[test]
    fn a_key_that_signs_anything_is_refused_even_if_it_is_pinned() {
        let (mut quote, _) = signed(&SigningKey::generate(), attest(&NONCE, &SEVEN_AND_ELEVEN, [5; 32]));
        // Not restricted: whoever may use the key can have a made-up quote signed.
        quote.ak_public[5] ^= 1;
        let name = name_of(&quote.ak_public);
        assert_eq!(quote.verify(&name, &NONCE, &pcrs(&[7, 11])), Err(QuoteError::Key));
    }

    #[test]
    fn every_prefix_of_a_quote_is_refused() {
        let whole = attest(&NONCE, &SEVEN_AND_ELEVEN, [5; 32]);
        assert!(Attest::parse(&whole).is_ok());
        for len in 0..whole.len() {
            assert!(Attest::parse(&whole[..len]).is_err(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let parsed = Attest::parse(&bytes);
            prop_assert!(parsed.is_err() || bytes.starts_with(&[0xff, b'T', b'C', b'G', 0x80, 0x18]));
        }

        #[test]
        fn a_quote_with_any_tail_is_parsed_to_its_end(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let whole = attest(&NONCE, &SEVEN_AND_ELEVEN, [5; 32]);
            let bytes = [&whole[..whole.len() - 44], &tail].concat();
            // What is read must be all there is: writing it again gives the same bytes.
            if let Ok(parsed) = Attest::parse(&bytes) {
                let len = tail[6];
                prop_assert_eq!(tail.len(), 7 + usize::from(len) + 34);
                prop_assert!(tail.ends_with(&parsed.quoted.composite.0));
            }
        }
    }
}
