//! Why a signed set is not admitted, for people who have to do something about it.

use std::{fmt::Write as _, io, path::PathBuf};

use super::{Places, RecordError, differing};
use crate::{
    bundle::{signed::BundleError, statement::Binding},
    measured::pcr::{PcrIndex, PcrValue, PcrValues, what_a_pcr_measures},
    tpm::{QuoteError, SlotStep, TpmError},
};

/// A set that is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The bundle itself.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The machine's anchors.
    #[error("{0}")]
    Anchors(String),
    /// The TPM is not known yet.
    #[error("this machine's TPM is not enrolled; run `enforcer tpm enroll`")]
    NotEnrolled,
    /// The TPM failed, or is another.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// A quote that proves nothing.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// The state never held still.
    #[error("the PCRs changed between reading and quoting, {attempts} times; what extends them?")]
    Moving {
        /// How often it was tried.
        attempts: usize,
    },
    /// The TPM was reset while the system ran on.
    #[error(
        "the TPM was reset since this boot (reset count {found}, was {expected}): what its PCRs hold now may have been \
         replayed. Reboot; if this comes back, the TPM is being tampered with"
    )]
    Reset {
        /// At the first admission of this boot.
        expected: u32,
        /// Now.
        found: u32,
    },
    /// In none of the states.
    #[error("{}", state(differences, component.as_deref()))]
    State {
        /// What differs, by binding.
        differences: Vec<Difference>,
        /// The first boot component that is not what it was at the last admission, as far as the logs tell.
        component: Option<String>,
    },
    /// No slot.
    #[error(
        "the TPM has no slot at {index:#010x}, so it cannot tell what was admitted before: it was cleared, or never \
         enrolled. If you know why, run `enforcer tpm enroll`"
    )]
    SlotMissing {
        /// Where.
        index: u32,
    },
    /// Another index in the slot's place.
    #[error(
        "the TPM's slot at {index:#010x} was replaced: its Name is {found}, should be {expected}. Somebody with the \
         owner's authority removed it, and with it the record of what was admitted"
    )]
    SlotReplaced {
        /// Where.
        index: u32,
        /// The Name it should have.
        expected: String,
        /// The Name it has.
        found: String,
    },
    /// Somebody else wrote the slot at the same time.
    #[error("the TPM's slot holds another record than was just written: is another loader at work?")]
    SlotLost,
    /// Older than what was admitted, or as old and different.
    #[error("{}", rollback(*active, *offered, *break_glass))]
    Rollback {
        /// The version in the slot.
        active: u64,
        /// The version that was offered.
        offered: u64,
        /// Whether it is about break-glass policies, which are counted apart.
        break_glass: bool,
    },
    /// The slot key did not approve this state.
    #[error(
        "the bundle has no right approval by the slot key for state {label}; sign it with `--slot-key`, for the slot \
         that the anchors name"
    )]
    NotApproved {
        /// The binding.
        label: String,
    },
    /// It cannot be installed.
    #[error("{0}")]
    DoesNotFit(String),
    /// The machine's own records.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The kernel has no random bytes.
    #[error("no random bytes for a nonce: {0}")]
    Random(io::Error),
    /// What was measured cannot be logged.
    #[error("cannot log to {} what is measured: {reason}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// How a binding differs from what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The binding.
    pub label: String,
    /// PCR, expected, found.
    pub pcrs: Vec<(PcrIndex, PcrValue, Option<PcrValue>)>,
}

impl Refusal {
    /// Tells how every binding differs, and which boot component is to blame.
    pub(super) fn state(bindings: &[Binding], found: &PcrValues, places: &Places) -> Self {
        let differences: Vec<Difference> = bindings
            .iter()
            .map(|binding| Difference { label: binding.label.clone(), pcrs: differing(&binding.pcrs, found) })
            .collect();
        let pcrs = differences.iter().flat_map(|difference| difference.pcrs.iter().map(|(pcr, ..)| *pcr));
        let component = super::records::changed_component(places, pcrs);
        Self::State { differences, component }
    }

    /// For programs: a word that stays.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Bundle(error) => error.reason(),
            Self::Anchors(_) => "anchors",
            Self::NotEnrolled => "not-enrolled",
            Self::Tpm(error) => of_tpm(error),
            Self::Quote(_) => "quote",
            Self::Moving { .. } => "pcr-moving",
            Self::Reset { .. } => "tpm-reset",
            Self::State { .. } => "platform-state",
            Self::SlotMissing { .. } => "slot-missing",
            Self::SlotReplaced { .. } => "slot-replaced",
            Self::SlotLost => "slot-lost",
            Self::Rollback { .. } => "rollback",
            Self::NotApproved { .. } => "not-approved",
            Self::DoesNotFit(_) => "does-not-fit",
            Self::Records(_) => "records",
            Self::Random(_) => "random",
            Self::Log { .. } => "log",
        }
    }
}

const fn of_tpm(error: &TpmError) -> &'static str {
    match error {
        TpmError::Absent { .. } => "tpm-absent",
        TpmError::TimedOut(_) => "tpm-timeout",
        TpmError::Busy { .. } => "tpm-busy",
        TpmError::Disconnected { .. } => "tpm-disconnected",
        TpmError::OtherTpm { .. } => "other-tpm",
        TpmError::OtherAk { .. } | TpmError::NoProof => "other-ak",
        TpmError::BankMissing { .. } => "bank-missing",
        TpmError::PcrsMoving { .. } => "pcr-moving",
        TpmError::SlotMissing(_) => "slot-missing",
        TpmError::SlotDiffers(_) => "slot-lost",
        TpmError::NvFull => "nv-full",
        TpmError::PolicyRefused { step: SlotStep::Version, .. } => "rollback",
        TpmError::PolicyRefused { step: SlotStep::Pcrs, .. } => "platform-state",
        TpmError::PolicyRefused { .. } => "not-approved",
        _ => "tpm",
    }
}

fn state(differences: &[Difference], component: Option<&str>) -> String {
    let mut text = "this platform is in none of the states that the bundle is for".to_owned();
    for difference in differences {
        for (pcr, expected, found) in &difference.pcrs {
            let found = found.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n  state {}: {}\n    expected {expected}\n    found    {found}",
                difference.label,
                what_a_pcr_measures(*pcr)
            );
        }
    }
    if let Some(component) = component {
        let _ = write!(text, "\n  first difference from the boot of the last admission: {component}");
    }
    text.push_str(
        "\n  If this change was intended: `enforcer pcr capture` here, and sign the next version for the old and the new \
         state. If not, somebody changed how this machine boots.",
    );
    text
}

fn rollback(active: u64, offered: u64, break_glass: bool) -> String {
    let what = if break_glass { "break-glass version" } else { "version" };
    if active == offered {
        return format!(
            "{what} {offered} was admitted before with other contents; sign it as {what} {} or higher",
            active + 1
        );
    }
    format!(
        "{what} {active} was admitted before, and {offered} is older; sign what you want as {what} {} or higher",
        active.saturating_add(1)
    )
}
