//! What can go wrong with a TPM, and what to do about it.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fmt, io, time::Duration};

use super::{Digest, Name, NvIndex, Tcti};
use crate::measured::pcr::PcrIndex;

/// Why a TPM did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// There is no TPM.
    #[error("there is no TPM at {tcti} ({reason}): enable it in the firmware, or say where it is")]
    Absent {
        /// Where it was looked for.
        tcti: Tcti,
        /// What happened.
        reason: String,
    },
    /// There is one, for others.
    #[error("no access to the TPM at {tcti}: run as root")]
    Denied {
        /// Where it is.
        tcti: Tcti,
    },
    /// It said "later" each time.
    #[error(
        "the TPM is busy: {command} was put off {attempts} times ({reason}); try again, and see who else uses it"
    )]
    Busy {
        /// What it was asked for.
        command: &'static str,
        /// How often.
        attempts: u32,
        /// Its last answer.
        reason: String,
    },
    /// It did not answer.
    #[error("the TPM did not answer within {} s: it hangs or is gone; if a reboot does not help, it is broken", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The connection ended.
    #[error("the connection to the TPM at {tcti} broke during {command} ({reason}): try again")]
    Disconnected {
        /// Where it is.
        tcti: Tcti,
        /// What it was asked for.
        command: &'static str,
        /// What happened.
        reason: String,
    },
    /// Not the enrolled machine's TPM, or a false one.
    #[error(
        "this is not the enrolled TPM: its endorsement key is {}, not {}; if the chip or the mainboard was replaced, enrol again",
        hex::encode(found),
        hex::encode(expected)
    )]
    OtherTpm {
        /// Pinned SHA-256 of the endorsement key's public area.
        expected: Digest,
        /// The one found.
        found: Digest,
    },
    /// The right endorsement key, but another attestation key.
    #[error(
        "the TPM's attestation key is {}, not the enrolled {}: its endorsement hierarchy was changed, or the key is \
         false; if it was you, enrol again",
        hex::encode(found),
        hex::encode(expected)
    )]
    OtherAk {
        /// Pinned Name.
        expected: Name,
        /// The one found.
        found: Name,
    },
    /// The endorsement key cannot be used, though its public half is right.
    #[error(
        "the TPM does not hold the secret of its endorsement key, or not that of its attestation key: it is not what it says"
    )]
    NoProof,
    /// PCRs that do not exist in SHA-256.
    #[error(
        "the TPM keeps no SHA-256 values of {}: allocate the SHA-256 bank in the firmware's settings (or with tpm2_pcrallocate), then reboot",
        registers(missing)
    )]
    BankMissing {
        /// Those that were asked for in vain.
        missing: BTreeSet<PcrIndex>,
    },
    /// Somebody measures all the time.
    #[error("PCRs changed each of {attempts} times they were read: wait until the boot is over")]
    PcrsMoving {
        /// How often they were read.
        attempts: u32,
    },
    /// The index exists already.
    #[error("NV index {0} exists already: choose another one, or remove it if it is yours")]
    SlotExists(NvIndex),
    /// The index does not exist.
    #[error("NV index {0} does not exist: the TPM was cleared, or never enrolled; enrol (again)")]
    SlotMissing(NvIndex),
    /// No room.
    #[error("the TPM has no room for another NV index: remove one that nobody needs")]
    NvFull,
    /// The TPM itself refused to write the slot.
    #[error("the TPM refused the write: {step} ({reason})")]
    PolicyRefused {
        /// What it did not accept.
        step: SlotStep,
        /// Its answer.
        reason: String,
    },
    /// It said yes, and did something else.
    #[error(
        "the TPM said it wrote NV index {0}, but that holds something else now: another writer was there first, or something sits between us and the TPM; look at the slot and try again"
    )]
    SlotDiffers(NvIndex),
    /// The hierarchy has a password.
    #[error(
        "the TPM's {hierarchy} hierarchy wants an authorization value, or is disabled ({reason}): clear the value, or enable it in the firmware"
    )]
    HierarchyClosed {
        /// Which.
        hierarchy: &'static str,
        /// The TPM's answer.
        reason: String,
    },
    /// The firmware left it in failure mode, or did not start it.
    #[error("the TPM does not work ({reason}): reboot; if that does not help, the chip is broken")]
    Failed {
        /// Its answer.
        reason: String,
    },
    /// Anything else it refused.
    #[error("the TPM refused {command}: {reason}")]
    Protocol {
        /// What it was asked for.
        command: &'static str,
        /// Its answer.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error(
        "the TPM's answer to {command} makes no sense ({reason}): it is broken, or something sits between us and it"
    )]
    Malformed {
        /// What it was asked for.
        command: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system failed us.
    #[error("cannot use the TPM: {what}: {source}")]
    System {
        /// What failed.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Built without the part that talks to TPMs.
    #[error("this program was built without TPM support")]
    NotBuilt,
}

/// A check that the TPM makes before it writes a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotStep {
    /// The approval is signed by the slot's key.
    Signature,
    /// PCRs hold what the approval says.
    Pcrs,
    /// The slot holds an older version.
    Version,
    /// What was asserted is what was approved.
    Approval,
    /// The approval is for this slot and these bytes.
    Write,
}

impl fmt::Display for SlotStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "the approval is not signed by this key; sign again, with the slot's key",
            Self::Pcrs => {
                "PCRs do not hold the values of this approval: something else was booted or measured; sign for this state, or boot the approved one"
            }
            Self::Version => "the slot holds this version or a newer one; sign again with a higher version",
            Self::Approval => {
                "the approval is for another state, record or slot than what was presented with it; use the bundle as it was signed"
            }
            Self::Write => {
                "the slot takes no such write: the approval is for other bytes, or the slot belongs to another key"
            }
        })
    }
}

pub(super) fn registers(pcrs: &BTreeSet<PcrIndex>) -> String {
    if pcrs.is_empty() {
        return "no PCR".to_owned();
    }
    let numbers: Vec<String> = pcrs.iter().map(ToString::to_string).collect();
    format!("PCR {}", numbers.join("+"))
}
