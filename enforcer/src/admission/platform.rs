//! What admission asks of a TPM.
//!
//! One trait, so that tests can put a platform in its place that changes between two questions.

use std::collections::BTreeSet;

use p256::ecdsa::Signature;

use super::Refusal;
use crate::{
    bundle::{
        approval::{Digest, Name, POLICY_REF, SlotPlan, SlotRecord, cp_hash_nv_write},
        key::PublicKey,
    },
    measured::pcr::{PcrIndex, PcrValues},
    tpm::{NvIndex, Quoted, SlotCondition, SlotWrite, Tpm, TpmError},
};

/// A slot as it lies in the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Name of the index.
    pub name: Name,
    /// What it holds; nothing before it was written.
    pub record: Option<SlotRecord>,
}

/// A TPM whose keys are the pinned ones.
pub trait Platform {
    /// A consistent snapshot of these PCRs.
    ///
    /// # Errors
    /// [`Refusal`].
    fn read_pcrs(&self, pcrs: &BTreeSet<PcrIndex>) -> Result<PcrValues, Refusal>;

    /// A quote for this nonce, verified to be by the pinned key about just these PCRs.
    ///
    /// # Errors
    /// [`Refusal`].
    fn quote(&self, nonce: &Digest, pcrs: &BTreeSet<PcrIndex>) -> Result<Quoted, Refusal>;

    /// The slot at an index, if there is one.
    ///
    /// # Errors
    /// [`Refusal`].
    fn slot(&self, index: u32) -> Result<Option<Slot>, Refusal>;

    /// Writes a record for which the slot key gave its approval in this state, and sees that the slot holds it.
    ///
    /// # Errors
    /// [`Refusal`]: above all what the TPM itself refuses.
    fn write_slot(
        &self,
        plan: &SlotPlan,
        record: SlotRecord,
        pcrs: &PcrValues,
        approval: &[u8],
        key: &PublicKey,
    ) -> Result<(), Refusal>;

    /// Extends a PCR.
    ///
    /// # Errors
    /// [`Refusal`].
    fn extend(&self, pcr: PcrIndex, digest: &Digest) -> Result<(), Refusal>;
}

/// The machine's own TPM, whose keys were compared with those that the anchors pin.
#[derive(Debug)]
pub struct Enrolled {
    tpm: Tpm,
    ak_name: Name,
}

impl Enrolled {
    /// A TPM that was opened with these pins.
    #[must_use]
    pub const fn new(tpm: Tpm, ak_name: Name) -> Self {
        Self { tpm, ak_name }
    }

    /// The TPM itself.
    #[must_use]
    pub const fn tpm(&self) -> &Tpm {
        &self.tpm
    }

    /// Name of the pinned attestation key.
    #[must_use]
    pub const fn ak_name(&self) -> &Name {
        &self.ak_name
    }
}

impl Platform for Enrolled {
    fn read_pcrs(&self, pcrs: &BTreeSet<PcrIndex>) -> Result<PcrValues, Refusal> {
        Ok(self.tpm.read_pcrs(pcrs)?)
    }

    fn quote(&self, nonce: &Digest, pcrs: &BTreeSet<PcrIndex>) -> Result<Quoted, Refusal> {
        Ok(self.tpm.quote(nonce, pcrs)?.verify(&self.ak_name, nonce, pcrs)?)
    }

    fn slot(&self, index: u32) -> Result<Option<Slot>, Refusal> {
        let slot = self.tpm.slot(nv_index(index)?)?;
        Ok(slot.map(|slot| Slot { name: slot.name, record: slot.bytes.as_ref().map(SlotRecord::from_bytes) }))
    }

    fn write_slot(
        &self,
        plan: &SlotPlan,
        record: SlotRecord,
        pcrs: &PcrValues,
        approval: &[u8],
        key: &PublicKey,
    ) -> Result<(), Refusal> {
        Ok(self.tpm.write_slot(&SlotWrite {
            index: nv_index(plan.index)?,
            bytes: record.to_bytes(),
            condition: SlotCondition::Newer { pcrs: pcrs.clone() },
            cp_hash: cp_hash_nv_write(&plan.name(true), &record),
            approved: plan.approved(record, pcrs),
            policy_ref: POLICY_REF.to_vec(),
            authority: key.coordinates().into(),
            signature: signature(approval)?,
        })?)
    }

    fn extend(&self, pcr: PcrIndex, digest: &Digest) -> Result<(), Refusal> {
        Ok(self.tpm.extend(pcr, digest)?)
    }
}

/// The empty record's write, with which a slot begins.
///
/// # Errors
/// [`Refusal`].
pub fn first_write(plan: &SlotPlan, approval: &[u8], key: &PublicKey) -> Result<SlotWrite, Refusal> {
    Ok(SlotWrite {
        index: nv_index(plan.index)?,
        bytes: SlotRecord::EMPTY.to_bytes(),
        condition: SlotCondition::First,
        cp_hash: cp_hash_nv_write(&plan.name(false), &SlotRecord::EMPTY),
        approved: plan.approved_first(),
        policy_ref: POLICY_REF.to_vec(),
        authority: key.coordinates().into(),
        signature: signature(approval)?,
    })
}

fn signature(der: &[u8]) -> Result<Signature, Refusal> {
    Signature::from_der(der).map_err(|_| Refusal::NotApproved { label: "of this platform".into() })
}

fn nv_index(index: u32) -> Result<NvIndex, TpmError> {
    NvIndex::try_from(index)
        .map_err(|error| TpmError::Malformed { command: "an NV index", reason: error.to_string() })
}
