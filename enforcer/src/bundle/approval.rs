//! What a policy authority signs, so that a TPM lets one record into its slot: TPM 2.0 enhanced authorization, computed
//! without a TPM (TCG TPM 2.0 Library, Part 3: Commands, revision 1.59).
//!
//! The slot is an NV index that can be written under one policy only: `PolicyAuthorize` by the slot key. The key approves,
//! per bundle and platform state, `PolicyPCR` (the state) ∘ `PolicyNV` (what the slot holds is older) ∘ `PolicyCpHash`
//! (these bytes and no others). So the TPM itself refuses a policy that is rolled back, for another platform state, or not
//! what was signed, whoever asks it. An index's Name has no part that differs between machines: one approval serves all.
//!
//! SHA-256 only: digests, Names and the PCR bank.
#![forbid(unsafe_code)]

use p256::ecdsa::Signature;
use sha2::{Digest as _, Sha256};

use super::key::{PublicKey, SecretKey};
use crate::measured::pcr::PcrValues;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// A TPM Name: the algorithm's number, then the digest of a public area.
pub type Name = [u8; 34];

/// Binds approvals to this use: signatures for anything else of the same key do not fit.
pub const POLICY_REF: &[u8] = b"enforcer/slot/v1";

/// `TPM_ALG_SHA256`.
const SHA256: u16 = 0x000b;
/// `TPM_CC_PolicyNV`.
const POLICY_NV: u32 = 0x0149;
/// `TPM_CC_PolicyCpHash`.
const POLICY_CP_HASH: u32 = 0x016e;
/// `TPM_CC_PolicyAuthorize`.
const POLICY_AUTHORIZE: u32 = 0x016a;
/// `TPM_CC_PolicyPCR`.
const POLICY_PCR: u32 = 0x017f;
/// `TPM_CC_NV_Write`.
const NV_WRITE: u32 = 0x0137;
/// `TPM_EO_UNSIGNED_LT`: what the index holds is less than the operand.
pub const UNSIGNED_LT: u16 = 0x0005;

/// Attributes of the slot: `POLICYWRITE | AUTHREAD | NO_DA` (Part 2, 13.4).
pub const SLOT_ATTRIBUTES: u32 = 1 << 3 | 1 << 18 | 1 << 25;
/// `TPMA_NV_WRITTEN`.
const WRITTEN: u32 = 1 << 29;

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// The Name of what has this public area.
#[must_use]
pub fn name_of(public_area: &[u8]) -> Name {
    let mut name = [0; 34];
    name[..2].copy_from_slice(&SHA256.to_be_bytes());
    name[2..].copy_from_slice(&sha256(&[public_area]));
    name
}

/// `TPML_PCR_SELECTION` of one SHA-256 bank.
#[must_use]
pub fn pcr_selection(pcrs: &PcrValues) -> [u8; 10] {
    let mut selection = [0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0];
    for (pcr, _) in pcrs.iter() {
        let number = pcr.number();
        selection[7 + usize::from(number / 8)] |= 1 << (number % 8);
    }
    selection
}

/// `policyDigest` after `TPM2_PolicyPCR`.
#[must_use]
pub fn policy_pcr(old: &Digest, pcrs: &PcrValues) -> Digest {
    sha256(&[old, &POLICY_PCR.to_be_bytes(), &pcr_selection(pcrs), &pcrs.composite().0])
}

/// `policyDigest` after `TPM2_PolicyNV` on the start of an index.
#[must_use]
pub fn policy_nv(old: &Digest, operand: &[u8], operation: u16, index: &Name) -> Digest {
    let arguments = sha256(&[operand, &0u16.to_be_bytes(), &operation.to_be_bytes()]);
    sha256(&[old, &POLICY_NV.to_be_bytes(), &arguments, index])
}

/// `policyDigest` after `TPM2_PolicyCpHash`.
#[must_use]
pub fn policy_cp_hash(old: &Digest, cp_hash: &Digest) -> Digest {
    sha256(&[old, &POLICY_CP_HASH.to_be_bytes(), cp_hash])
}

/// `policyDigest` after `TPM2_PolicyAuthorize`, which forgets what was before.
#[must_use]
pub fn policy_authorize(key: &Name, policy_ref: &[u8]) -> Digest {
    sha256(&[&sha256(&[&[0; 32], &POLICY_AUTHORIZE.to_be_bytes(), key]), policy_ref])
}

/// `cpHash` of `TPM2_NV_Write` to the start of an index, authorized by the index itself.
#[must_use]
pub fn cp_hash_nv_write(index: &Name, data: &SlotRecord) -> Digest {
    let bytes = data.to_bytes();
    sha256(&[&NV_WRITE.to_be_bytes(), index, index, &SlotRecord::SIZE_BYTES, &bytes, &0u16.to_be_bytes()])
}

/// What the authority's key signs, as the digest to be signed.
#[must_use]
pub fn to_be_signed(approved: &Digest, policy_ref: &[u8]) -> Digest {
    sha256(&[approved, policy_ref])
}

/// What the slot holds: which bundle was admitted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRecord {
    /// The bundle's version. Zero: none was admitted yet.
    pub version: u64,
    /// SHA-256 of the bundle's statement.
    pub statement: Digest,
}

impl SlotRecord {
    /// Bytes of a record.
    pub const SIZE: usize = 40;

    /// The same as a TPM writes sizes.
    const SIZE_BYTES: [u8; 2] = [0, 40];

    /// What a new slot holds.
    pub const EMPTY: Self = Self { version: 0, statement: [0; 32] };

    /// The record of a statement.
    #[must_use]
    pub fn of(version: u64, payload: &[u8]) -> Self {
        Self { version, statement: sha256(&[payload]) }
    }

    /// As it lies in the slot: the version first, big-endian, for the TPM to compare.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.version.to_be_bytes());
        bytes[8..].copy_from_slice(&self.statement);
        bytes
    }

    /// From what lies in a slot.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let (version, statement) = bytes.split_at(8);
        let mut record = Self::EMPTY;
        record.version = version.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        record.statement.copy_from_slice(statement);
        record
    }
}

/// An NV index that belongs to a slot key.
#[derive(Clone, Copy, Debug)]
pub struct SlotPlan {
    /// The index's handle.
    pub index: u32,
    /// The Name of the key that approves what is written.
    key: Name,
}

impl SlotPlan {
    /// A slot at an index for a key.
    #[must_use]
    pub fn new(index: u32, key: &PublicKey) -> Self {
        Self { index, key: key.tpm_name() }
    }

    /// `authPolicy` of the index.
    #[must_use]
    pub fn auth_policy(&self) -> Digest {
        policy_authorize(&self.key, POLICY_REF)
    }

    /// The index's Name, once or before it was written.
    #[must_use]
    pub fn name(&self, written: bool) -> Name {
        let attributes = SLOT_ATTRIBUTES | if written { WRITTEN } else { 0 };
        let mut public = Vec::with_capacity(46);
        public.extend(self.index.to_be_bytes());
        public.extend(SHA256.to_be_bytes());
        public.extend(attributes.to_be_bytes());
        public.extend([0, 32]);
        public.extend(self.auth_policy());
        public.extend(SlotRecord::SIZE_BYTES);
        name_of(&public)
    }

    /// The policy under which a record may replace an older one in one platform state.
    #[must_use]
    pub fn approved(&self, record: SlotRecord, pcrs: &PcrValues) -> Digest {
        let index = self.name(true);
        let platform = policy_pcr(&[0; 32], pcrs);
        let growing = policy_nv(&platform, &record.version.to_be_bytes(), UNSIGNED_LT, &index);
        policy_cp_hash(&growing, &cp_hash_nv_write(&index, &record))
    }

    /// The policy under which the empty record may be written first: a new index holds nothing to compare with.
    #[must_use]
    pub fn approved_first(&self) -> Digest {
        policy_cp_hash(&[0; 32], &cp_hash_nv_write(&self.name(false), &SlotRecord::EMPTY))
    }
}

/// The Name that a TPM gives a P-256 verification key loaded from outside: `TPMT_PUBLIC` with `userWithAuth | sign`, no
/// symmetric algorithm, scheme or derivation function. This template is part of the format.
pub(super) fn verification_key_name(x: &[u8; 32], y: &[u8; 32]) -> Name {
    const ECC: u16 = 0x0023;
    const USER_WITH_AUTH_AND_SIGN: u32 = 1 << 6 | 1 << 18;
    const NULL: u16 = 0x0010;
    const NIST_P256: u16 = 0x0003;
    let mut public = Vec::with_capacity(90);
    public.extend(ECC.to_be_bytes());
    public.extend(SHA256.to_be_bytes());
    public.extend(USER_WITH_AUTH_AND_SIGN.to_be_bytes());
    public.extend([0, 0]);
    public.extend(NULL.to_be_bytes());
    public.extend(NULL.to_be_bytes());
    public.extend(NIST_P256.to_be_bytes());
    public.extend(NULL.to_be_bytes());
    for coordinate in [x, y] {
        public.extend([0, 32]);
        public.extend(coordinate);
    }
    name_of(&public)
}

/// Signs an approval.
///
/// Only digests that this module computed come here: a key that signed what it is handed would approve anything.
#[must_use]
pub fn sign(key: &SecretKey, approved: &Digest) -> Signature {
    key.sign_digest(&to_be_signed(approved, POLICY_REF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::pcr::{PcrIndex, PcrValue};

    #[test]
    fn records_survive_the_slot() {
        let record = SlotRecord::of(0x0102_0304_0506_0708, b"statement");
        let bytes = record.to_bytes();
        assert_eq!(bytes[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(SlotRecord::from_bytes(&bytes), record);
        assert_eq!(SlotRecord::from_bytes(&[0; 40]), SlotRecord::EMPTY);
    }

    #[test]
    fn an_approval_holds_for_one_state_record_slot_and_key_only() {
        let (key, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let state = |byte: u8| PcrValues::from_iter([(PcrIndex::SECURE_BOOT, PcrValue([byte; 32]))]);
        let plan = SlotPlan::new(0x0180_0a12, &key.public());
        let record = SlotRecord::of(5, b"five");
        let mut approved = vec![
            plan.approved(record, &state(1)),
            plan.approved(record, &state(2)),
            plan.approved(SlotRecord::of(6, b"five"), &state(1)),
            plan.approved(SlotRecord::of(5, b"six"), &state(1)),
            SlotPlan::new(0x0180_0a13, &key.public()).approved(record, &state(1)),
            SlotPlan::new(0x0180_0a12, &other.public()).approved(record, &state(1)),
            plan.approved_first(),
        ];
        approved.sort_unstable();
        approved.dedup();
        assert_eq!(approved.len(), 7);
        assert_ne!(plan.name(true), plan.name(false));
    }
}
