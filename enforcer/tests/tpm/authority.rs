//! Who approves what a slot may hold, computed here from the specification alone (TCG TPM 2.0 Library, Part 3), so that
//! the TPM's arithmetic is compared with a second one.

use enforcer::{
    measured::pcr::PcrValues,
    tpm::{Name, NvIndex, Point, SlotCondition, SlotWrite, name_of},
};
use p256::{
    ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner as _},
    elliptic_curve::Generate as _,
};
use sha2::{Digest as _, Sha256};

type Digest = [u8; 32];

const POLICY_REF: &[u8] = b"test/slot/v1";

pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    Sha256::digest(parts.concat()).into()
}

/// A slot and the key that approves its writes.
pub(crate) struct Authority {
    key: SigningKey,
    pub(crate) index: NvIndex,
}

/// The policy of a write after each assertion.
pub(crate) struct Policy {
    pub(crate) pcrs: Digest,
    pub(crate) version: Digest,
    pub(crate) whole: Digest,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::at(0x0180_0a12)
    }

    pub(crate) fn at(index: u32) -> Self {
        Self { key: SigningKey::generate(), index: NvIndex::try_from(index).unwrap() }
    }

    fn point(&self) -> Point {
        let point = self.key.verifying_key().to_sec1_point(false);
        let coordinate = |at: usize| point.as_bytes()[at..at + 32].try_into().unwrap();
        Point { x: coordinate(1), y: coordinate(33) }
    }

    /// Name of the key as the TPM sees it: ECC, SHA-256, userWithAuth and sign, P-256, nothing else.
    fn key_name(&self) -> Name {
        let mut public = vec![0, 0x23, 0, 0x0b, 0, 4, 0, 0x40, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10];
        for coordinate in [self.point().x, self.point().y] {
            public.extend([0, 32]);
            public.extend(coordinate);
        }
        name_of(&public)
    }

    /// `authPolicy` of the slot: `PolicyAuthorize` by the key.
    pub(crate) fn auth_policy(&self) -> Digest {
        let key = sha256(&[&[0; 32], &0x16a_u32.to_be_bytes(), &self.key_name()]);
        sha256(&[&key, POLICY_REF])
    }

    /// Name of the slot: POLICYWRITE, AUTHREAD, NO_DA, and WRITTEN once it is.
    pub(crate) fn slot_name(&self, written: bool) -> Name {
        let attributes: u32 = 0x0204_0008 | if written { 0x2000_0000 } else { 0 };
        let mut public = self.index.number().to_be_bytes().to_vec();
        public.extend([0, 0x0b]);
        public.extend(attributes.to_be_bytes());
        public.extend([0, 32]);
        public.extend(self.auth_policy());
        public.extend([0, 40]);
        name_of(&public)
    }

    fn cp_hash(&self, written: bool, bytes: &[u8; 40]) -> Digest {
        let name = self.slot_name(written);
        sha256(&[&0x137_u32.to_be_bytes(), &name, &name, &[0, 40], bytes, &[0, 0]])
    }

    /// What has to be approved for these bytes in this state.
    pub(crate) fn policy(&self, bytes: &[u8; 40], values: &PcrValues) -> Policy {
        let mut selection = [0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0];
        values
            .iter()
            .for_each(|(pcr, _)| selection[7 + usize::from(pcr.number() / 8)] |= 1 << (pcr.number() % 8));
        let pcrs = sha256(&[&[0; 32], &0x17f_u32.to_be_bytes(), &selection, &values.composite().0]);
        // The slot's first bytes, from offset 0, unsigned less than the operand.
        let less = sha256(&[&bytes[..8], &[0, 0], &[0, 5]]);
        let version = sha256(&[&pcrs, &0x149_u32.to_be_bytes(), &less, &self.slot_name(true)]);
        let whole = policy_cp_hash(&version, &self.cp_hash(true, bytes));
        Policy { pcrs, version, whole }
    }

    /// The first write: zeros into the new index.
    pub(crate) fn first(&self) -> SlotWrite {
        let bytes = [0; 40];
        let cp_hash = self.cp_hash(false, &bytes);
        self.approve(bytes, SlotCondition::First, cp_hash, policy_cp_hash(&[0; 32], &cp_hash))
    }

    /// The write of a version with some content in some state.
    pub(crate) fn version(&self, version: u64, content: &str, values: &PcrValues) -> SlotWrite {
        let bytes = record(version, content);
        let condition = SlotCondition::Newer { pcrs: values.clone() };
        self.approve(bytes, condition, self.cp_hash(true, &bytes), self.policy(&bytes, values).whole)
    }

    fn approve(
        &self,
        bytes: [u8; 40],
        condition: SlotCondition,
        cp_hash: Digest,
        approved: Digest,
    ) -> SlotWrite {
        let signature: Signature = self.key.sign_prehash(&sha256(&[&approved, POLICY_REF])).unwrap();
        SlotWrite {
            index: self.index,
            bytes,
            condition,
            cp_hash,
            approved,
            policy_ref: POLICY_REF.to_vec(),
            authority: self.point(),
            signature,
        }
    }
}

/// A version and the digest of a content.
pub(crate) fn record(version: u64, content: &str) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&version.to_be_bytes());
    bytes[8..].copy_from_slice(&sha256(&[content.as_bytes()]));
    bytes
}

/// A policy with the command's parameters asserted.
pub(crate) fn policy_cp_hash(old: &Digest, cp_hash: &Digest) -> Digest {
    sha256(&[old, &0x16e_u32.to_be_bytes(), cp_hash])
}
