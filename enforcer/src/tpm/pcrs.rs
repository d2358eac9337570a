//! Platform configuration registers: reading, quoting, extending.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use tss_esapi::{
    handles::PcrHandle,
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{
        Data, Digest as TpmDigest, DigestValues, EccSignature, PcrSelectionList, PcrSlot,
        Signature as TpmSignature, SignatureScheme,
    },
    traits::Marshall as _,
};

use super::{Digest, SignedQuote, TpmError, code::Refusal, connection::Connection, keys::WRONG_VALUE};
use crate::measured::pcr::{PcrIndex, PcrValue, PcrValues};

const BANK: HashingAlgorithm = HashingAlgorithm::Sha256;

/// How many a TPM reads at a time (`TPML_DIGEST` has room for eight).
const AT_ONCE: usize = 8;

/// How often a set is read until nothing changed meanwhile.
const ATTEMPTS: u32 = 5;

impl Connection {
    /// All values as of one moment.
    pub(super) fn read_pcrs(&mut self, pcrs: &BTreeSet<PcrIndex>) -> Result<PcrValues, TpmError> {
        let wanted: Vec<PcrIndex> = pcrs.iter().copied().collect();
        for _ in 0..ATTEMPTS {
            let mut values = Vec::new();
            let mut counters = BTreeSet::new();
            for chunk in wanted.chunks(AT_ONCE) {
                let (counter, read) = self.command("TPM2_PCR_Read", |context| read_once(context, chunk))?;
                counters.insert(counter);
                values.extend(read);
            }
            let values: PcrValues = values.into_iter().collect();
            // A bank that is not allocated is left out of the answer, without an error.
            let Some(values) = values.select(wanted.iter().copied()) else {
                let missing = wanted.into_iter().filter(|pcr| values.get(*pcr).is_none()).collect();
                return Err(TpmError::BankMissing { missing });
            };
            // The TPM counts changes of any register.
            if counters.len() <= 1 {
                return Ok(values);
            }
        }
        Err(TpmError::PcrsMoving { attempts: ATTEMPTS })
    }

    pub(super) fn quote(
        &mut self,
        nonce: &Digest,
        pcrs: &BTreeSet<PcrIndex>,
    ) -> Result<SignedQuote, TpmError> {
        let key = self.attestation_key()?;
        let wanted: Vec<PcrIndex> = pcrs.iter().copied().collect();
        let (attest, signature) = self.command("TPM2_Quote", |context| {
            let nonce = Data::try_from(nonce.to_vec())?;
            let selection = selection(&wanted)?;
            context.execute_with_session(Some(AuthSession::Password), |context| {
                let (attest, signature) =
                    context.quote(key.handle, nonce, SignatureScheme::Null, selection)?;
                Ok((attest.marshall()?, signature))
            })
        })?;
        let malformed = || TpmError::Malformed {
            command: "TPM2_Quote",
            reason: "not an ECDSA signature on P-256".to_owned(),
        };
        let TpmSignature::EcDsa(signature) = signature else { return Err(malformed()) };
        let signature = der(&signature).ok_or_else(malformed)?;
        Ok(SignedQuote { attest, signature, ak_public: key.public })
    }

    pub(super) fn extend(&mut self, pcr: PcrIndex, digest: &Digest) -> Result<(), TpmError> {
        let extended = self.in_session("TPM2_PCR_Extend", |context| {
            let mut values = DigestValues::new();
            values.set(BANK, TpmDigest::try_from(digest.as_slice())?);
            Ok(context.pcr_extend(handle(pcr)?, values)?)
        });
        extended.map_err(|refused| refused.describe("TPM2_PCR_Extend"))
    }
}

/// What the TPM has of these, and its count of changes.
fn read_once(
    context: &mut tss_esapi::Context,
    pcrs: &[PcrIndex],
) -> tss_esapi::Result<(u32, Vec<(PcrIndex, PcrValue)>)> {
    let wrong = || tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm);
    let wanted = selection(pcrs)?;
    let (counter, read, digests) = context.execute_without_session(|context| context.pcr_read(wanted))?;
    let banks = read.get_selections().iter().filter(|bank| !bank.is_empty());
    let mut indices = Vec::new();
    for bank in banks {
        if bank.hashing_algorithm() != BANK {
            return Err(wrong());
        }
        for slot in bank.selected() {
            let index = PcrIndex::try_from(u32::from(slot).trailing_zeros()).map_err(|_| wrong())?;
            indices.push(index);
        }
    }
    // By number, as the digests are.
    indices.sort_unstable();
    if indices.len() != digests.len() {
        return Err(wrong());
    }
    let values = digests.value().iter().map(|digest| <[u8; 32]>::try_from(digest.value()).map(PcrValue));
    let values = values.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
    Ok((counter, indices.into_iter().zip(values).collect()))
}

fn selection(pcrs: &[PcrIndex]) -> tss_esapi::Result<PcrSelectionList> {
    let slots =
        pcrs.iter().map(|pcr| PcrSlot::try_from(1_u32 << pcr.number())).collect::<Result<Vec<_>, _>>()?;
    PcrSelectionList::builder().with_selection(BANK, &slots).build()
}

/// The TPM's handle of a register is its number; the crate has one name for each.
fn handle(pcr: PcrIndex) -> Result<PcrHandle, Refusal> {
    use PcrHandle::*;
    const HANDLES: [PcrHandle; 24] = [
        Pcr0, Pcr1, Pcr2, Pcr3, Pcr4, Pcr5, Pcr6, Pcr7, Pcr8, Pcr9, Pcr10, Pcr11, Pcr12, Pcr13, Pcr14, Pcr15,
        Pcr16, Pcr17, Pcr18, Pcr19, Pcr20, Pcr21, Pcr22, Pcr23,
    ];
    HANDLES.get(usize::from(pcr.number())).copied().ok_or(WRONG_VALUE)
}

/// An ECDSA signature on P-256 in DER. TPMs may leave zeros in front of the numbers out.
fn der(signature: &EccSignature) -> Option<Vec<u8>> {
    let number = |bytes: &[u8]| {
        let mut padded = [0; 32];
        let start = padded.len().checked_sub(bytes.len())?;
        padded[start..].copy_from_slice(bytes);
        Some(padded)
    };
    let (r, s) = (number(signature.signature_r().value())?, number(signature.signature_s().value())?);
    let signature = p256::ecdsa::Signature::from_scalars(r, s).ok()?;
    Some(signature.to_der().as_bytes().to_vec())
}
