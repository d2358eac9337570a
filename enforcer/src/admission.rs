//! Admission: whether a signed set of policies is for this machine, in the state it is in now, and not older than what it
//! had. Reads like the story in `docs/trust.md`.
//!
//! A quote by the pinned attestation key proves the platform's state; the TPM's slot proves the age, and refuses itself
//! what the slot key did not approve for this state. What is admitted is written to a log and extended into a PCR before
//! anything reaches the kernel. Every step that fails refuses; nothing that fails changes what is in force.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, time::SystemTime};

use crate::{
    bundle::{
        anchors::{Anchors, TpmMode},
        approval::{Digest, SlotPlan, SlotRecord},
        signed::SignedSet,
        statement::{Binding, Seal},
        verify::{Candidate, Grounds, Trust},
    },
    measured::pcr::{PcrIndex, PcrValue, PcrValues},
};

mod measure;
pub mod platform;
pub mod records;
mod refusal;

pub use self::{
    measure::{Measured, Measurements, START_VALUE, kind, replayed},
    platform::{Enrolled, Platform},
    records::{Alarm, Places, RecordError, Standing},
    refusal::{Difference, Refusal},
};

/// How often PCRs are read and quoted again when they move in between.
const ATTEMPTS: usize = 5;

/// A signed set that may be installed. Made by [`admit`] alone.
#[derive(Clone, Debug)]
pub struct Admitted {
    set: SignedSet,
    trust: Trust,
}

impl Admitted {
    /// The set and why it is trusted.
    pub(crate) fn into_parts(self) -> (SignedSet, Trust) {
        (self.set, self.trust)
    }
}

/// What was admitted, and on what grounds: for people, events and the checks that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Why it is trusted.
    pub trust: Trust,
    /// The slot's record.
    pub record: SlotRecord,
    /// Until when.
    pub not_after: Option<SystemTime>,
    /// What becomes of the seal.
    pub seal: Option<Seal>,
    /// Whether this very set was admitted before.
    pub already_active: bool,
    /// The values it is bound to. Empty without a TPM.
    pub bound: PcrValues,
    /// The TPM's count of resets at this boot. `None` without a TPM.
    pub reset_count: Option<u32>,
    /// What was measured this time.
    pub measured: Vec<String>,
}

/// Where and for whom policies are admitted.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// What it trusts.
    pub anchors: &'a Anchors,
    /// Where it keeps its records.
    pub places: &'a Places,
    /// SHA-256 of the BPF object that is going to enforce.
    pub object: &'a Digest,
}

/// Admits a set, or says why not.
///
/// `connect` reaches the TPM, and is not called where the anchors say that there is none. `fits` tells whether the policies
/// can be installed at all; it is asked before the TPM notes the version, which cannot be taken back.
///
/// # Errors
/// [`Refusal`]. Then nothing has changed, but perhaps what the TPM and the log say about an attempt that was cut short.
pub fn admit<P: Platform>(
    set: SignedSet,
    machine: &Machine<'_>,
    connect: impl FnOnce() -> Result<P, Refusal>,
    fits: impl FnOnce(&[Candidate]) -> Result<(), String>,
) -> Result<(Admitted, Report), Refusal> {
    let (trust, report) = match machine.anchors.tpm.mode {
        TpmMode::Require => with_tpm(&set, machine, &connect()?, fits)?,
        TpmMode::Off => without_tpm(&set, machine, fits)?,
    };
    Ok((Admitted { set, trust }, report))
}

fn with_tpm<P: Platform>(
    set: &SignedSet,
    machine: &Machine<'_>,
    tpm: &P,
    fits: impl FnOnce(&[Candidate]) -> Result<(), String>,
) -> Result<(Trust, Report), Refusal> {
    let (anchors, places, statement) = (machine.anchors, machine.places, set.statement());
    let measurements = Measurements::open(places, anchors)?;
    let state = quoted(tpm, wanted(set, measurements.pcr()))?;
    records::refuse_reset(places, state.reset_count)?;
    let (index, binding) = matching(&statement.bindings, &state.pcrs)
        .ok_or_else(|| Refusal::state(&statement.bindings, &state.pcrs, places))?;
    let plan = anchors.tpm.plan(statement.break_glass).ok_or(Refusal::NotEnrolled)?;
    let active = read_slot(tpm, &plan)?;
    let already_active = is_active(active, set.record(), statement.break_glass)?;
    fits(set.candidates()).map_err(Refusal::DoesNotFit)?;
    if !already_active {
        let key = anchors.tpm.slot_key.as_ref().ok_or(Refusal::NotEnrolled)?;
        let approval = set
            .approval(index, &plan, key)
            .ok_or_else(|| Refusal::NotApproved { label: binding.label.clone() })?;
        // Another loader may have been faster: with the same bundle that is as well, with another one it is a refusal.
        if let Err(refusal) = tpm.write_slot(&plan, set.record(), &binding.pcrs, &approval, key)
            && read_slot(tpm, &plan)? != set.record()
        {
            return Err(refusal);
        }
    }
    let measured = measurements.measure(
        tpm,
        state.pcrs.get(measurements.pcr()),
        &[
            Measured::Anchors(anchors.digest),
            Measured::Object(*machine.object),
            Measured::Policy {
                policy: statement.policy.clone(),
                version: statement.version,
                statement: set.record().statement,
                break_glass: statement.break_glass,
            },
        ],
    )?;
    // A TPM judges the version when it is asserted, not when the slot is written, so somebody who asserted an older version
    // in time could write it after ours. Measuring voids such sessions; from here on the slot holds what it holds now.
    if read_slot(tpm, &plan)? != set.record() {
        return Err(Refusal::SlotLost);
    }
    records::note_boot(places, state.reset_count)?;
    let grounds = Grounds {
        policy: statement.policy.clone(),
        version: statement.version,
        binding: Some(binding.label.clone()),
    };
    let trust = if statement.break_glass { Trust::BreakGlass(grounds) } else { Trust::Signed(grounds) };
    let report = Report {
        trust: trust.clone(),
        record: set.record(),
        not_after: statement.not_after,
        seal: statement.seal,
        already_active,
        bound: binding.pcrs.clone(),
        reset_count: Some(state.reset_count),
        measured,
    };
    Ok((trust, report))
}

/// On signatures alone. What keeps old versions away is a file here, which root can remove.
fn without_tpm(
    set: &SignedSet,
    machine: &Machine<'_>,
    fits: impl FnOnce(&[Candidate]) -> Result<(), String>,
) -> Result<(Trust, Report), Refusal> {
    let statement = set.statement();
    let active = records::highest(machine.places)?;
    let already_active = is_active(active, set.record(), false)?;
    fits(set.candidates()).map_err(Refusal::DoesNotFit)?;
    if !already_active {
        records::note_highest(machine.places, set.record())?;
    }
    let trust = Trust::SignedOnly(Grounds {
        policy: statement.policy.clone(),
        version: statement.version,
        binding: None,
    });
    let report = Report {
        trust: trust.clone(),
        record: set.record(),
        not_after: statement.not_after,
        seal: statement.seal,
        already_active,
        bound: PcrValues::default(),
        reset_count: None,
        measured: Vec::new(),
    };
    Ok((trust, report))
}

/// What a fresh quote proved.
#[derive(Clone, Debug)]
pub struct ProvenState {
    /// The values of all PCRs that were asked for.
    pub pcrs: PcrValues,
    /// Resets of the TPM.
    pub reset_count: u32,
}

/// Reads PCRs and has the TPM sign that it is so, with a nonce that nobody could know before.
///
/// # Errors
/// [`Refusal`]; [`Refusal::Moving`] when they change each time between reading and quoting.
pub fn quoted<P: Platform>(tpm: &P, pcrs: BTreeSet<PcrIndex>) -> Result<ProvenState, Refusal> {
    let (pcrs, reset_count) = held_still(tpm, &pcrs, || {
        let nonce: [u8; 32] = crate::sys::random().map_err(Refusal::Random)?;
        let quoted = tpm.quote(&nonce, &pcrs)?;
        Ok((quoted.composite, quoted.reset_count))
    })?;
    Ok(ProvenState { pcrs, reset_count })
}

/// The values of PCRs, and what a quote gave that was over the same values.
///
/// # Errors
/// [`Refusal`]; [`Refusal::Moving`] when they change each time between reading and quoting.
pub fn held_still<P: Platform, T>(
    tpm: &P,
    pcrs: &BTreeSet<PcrIndex>,
    mut quote: impl FnMut() -> Result<(PcrValue, T), Refusal>,
) -> Result<(PcrValues, T), Refusal> {
    for _ in 0..ATTEMPTS {
        let values = tpm.read_pcrs(pcrs)?;
        let (composite, quoted) = quote()?;
        if composite == values.composite() {
            return Ok((values, quoted));
        }
    }
    Err(Refusal::Moving { attempts: ATTEMPTS })
}

/// The PCRs of all bindings, and the one that is going to be extended.
fn wanted(set: &SignedSet, measured: PcrIndex) -> BTreeSet<PcrIndex> {
    let bound = set.statement().bindings.iter().flat_map(|binding| binding.pcrs.iter());
    bound.map(|(pcr, _)| pcr).chain([measured]).collect()
}

fn matching<'b>(bindings: &'b [Binding], pcrs: &PcrValues) -> Option<(usize, &'b Binding)> {
    let holds = |binding: &Binding| binding.pcrs.iter().all(|(pcr, value)| pcrs.get(pcr) == Some(value));
    bindings.iter().enumerate().find(|(_, binding)| holds(binding))
}

/// The slot's record, if the slot is ours: its Name covers its attributes and who may write it.
fn read_slot<P: Platform>(tpm: &P, plan: &SlotPlan) -> Result<SlotRecord, Refusal> {
    let slot = tpm.slot(plan.index)?.ok_or(Refusal::SlotMissing { index: plan.index })?;
    if slot.name != plan.name(true) {
        return Err(Refusal::SlotReplaced {
            index: plan.index,
            expected: hex::encode(plan.name(true)),
            found: hex::encode(slot.name),
        });
    }
    slot.record.ok_or(Refusal::SlotMissing { index: plan.index })
}

/// Whether a record is the one in force; refuses what is older. The TPM refuses that as well; here it is explained.
fn is_active(active: SlotRecord, offered: SlotRecord, break_glass: bool) -> Result<bool, Refusal> {
    if active == offered {
        return Ok(true);
    }
    if offered.version > active.version {
        return Ok(false);
    }
    Err(Refusal::Rollback { active: active.version, offered: offered.version, break_glass })
}

/// Compares a value that was found with the one that was expected.
fn differing(expected: &PcrValues, found: &PcrValues) -> Vec<(PcrIndex, PcrValue, Option<PcrValue>)> {
    let pairs = expected.iter().map(|(pcr, value)| (pcr, value, found.get(pcr)));
    pairs.filter(|(_, expected, found)| *found != Some(*expected)).collect()
}

/// Whether the platform still is what something was admitted for.
///
/// # Errors
/// [`Refusal`]: [`Refusal::State`] and [`Refusal::Reset`], or whatever keeps the TPM from proving it.
pub fn recheck<P: Platform>(tpm: &P, standing: &Standing, places: &Places) -> Result<(), Refusal> {
    let state = quoted(tpm, standing.bound.iter().map(|(pcr, _)| pcr).collect())?;
    records::refuse_reset(places, state.reset_count)?;
    if differing(&standing.bound, &state.pcrs).is_empty() {
        return Ok(());
    }
    let label = standing.state.clone().unwrap_or_default();
    Err(Refusal::state(&[Binding { label, pcrs: standing.bound.clone() }], &state.pcrs, places))
}
