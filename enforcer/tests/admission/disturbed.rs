//! A platform that something happens to between two questions.

use std::collections::BTreeSet;

use enforcer::{
    admission::{Enrolled, Platform, Refusal, platform::Slot},
    bundle::{
        approval::{Digest, SlotPlan, SlotRecord},
        key::PublicKey,
    },
    measured::pcr::{PcrIndex, PcrValues},
    tpm::Quoted,
};

/// A real platform, and what happens to it when.
pub(crate) struct Disturbed<'t> {
    inner: &'t Enrolled,
    after_reading: Box<dyn Fn(&Enrolled) + 't>,
    before_writing: Box<dyn Fn(&Enrolled) + 't>,
}

impl<'t> Disturbed<'t> {
    /// Each time that PCRs were read.
    pub(crate) fn after_reading(inner: &'t Enrolled, happens: impl Fn(&Enrolled) + 't) -> Self {
        Self { inner, after_reading: Box::new(happens), before_writing: Box::new(|_| {}) }
    }

    /// Each time that the slot is going to be written.
    pub(crate) fn before_writing(inner: &'t Enrolled, happens: impl Fn(&Enrolled) + 't) -> Self {
        Self { inner, after_reading: Box::new(|_| {}), before_writing: Box::new(happens) }
    }
}

impl Platform for Disturbed<'_> {
    fn read_pcrs(&self, pcrs: &BTreeSet<PcrIndex>) -> Result<PcrValues, Refusal> {
        let read = self.inner.read_pcrs(pcrs);
        (self.after_reading)(self.inner);
        read
    }

    fn quote(&self, nonce: &Digest, pcrs: &BTreeSet<PcrIndex>) -> Result<Quoted, Refusal> {
        self.inner.quote(nonce, pcrs)
    }

    fn slot(&self, index: u32) -> Result<Option<Slot>, Refusal> {
        self.inner.slot(index)
    }

    fn write_slot(
        &self,
        plan: &SlotPlan,
        record: SlotRecord,
        pcrs: &PcrValues,
        approval: &[u8],
        key: &PublicKey,
    ) -> Result<(), Refusal> {
        (self.before_writing)(self.inner);
        self.inner.write_slot(plan, record, pcrs, approval, key)
    }

    fn extend(&self, pcr: PcrIndex, digest: &Digest) -> Result<(), Refusal> {
        self.inner.extend(pcr, digest)
    }
}
