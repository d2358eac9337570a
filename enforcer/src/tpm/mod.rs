//! The TPM: what it measured, what it remembers, and proof that it is the one that was enrolled.
//!
//! ```text
//! Tpm ──request, deadline──▶ thread ─ Connection ─▶ tss-esapi ─▶ libtss2 ─▶ /dev/tpmrm0
//!                                          └──────▶ raw (one flow that tss-esapi lacks)
//! SignedQuote::verify                                        in software, on any machine
//! ```
//!
//! What a TPM says is worth something only if it is the enrolled one: [`Tpm::open_pinned`] compares its two keys with
//! pins before anything else. Quotes are signed by the pinned attestation key. What is read from and written to NV, and
//! what is extended, goes through sessions that are salted to the pinned endorsement key, so that nothing between us and
//! the chip can read along or answer in its place.
//!
//! Nothing here decides about policies: `bundle` does.
#![deny(unsafe_code)]

#[cfg(not(feature = "tpm"))]
mod absent;
#[cfg(feature = "tpm")]
pub mod certificate;
#[cfg(not(feature = "tpm"))]
#[path = "no_certificate.rs"]
pub mod certificate;
#[cfg(feature = "tpm")]
mod code;
#[cfg(feature = "tpm")]
mod connection;
#[cfg(feature = "tpm")]
mod credential;
mod error;
#[cfg(feature = "tpm")]
mod info;
#[cfg(feature = "tpm")]
mod keys;
#[cfg(feature = "tpm")]
mod pcrs;
mod quote;
#[cfg(feature = "tpm")]
mod raw;
#[cfg(feature = "tpm")]
mod slot;
mod tcti;
mod wire;
mod worker;

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use p256::ecdsa::Signature;

#[cfg(not(feature = "tpm"))]
use self::absent::Connection;
#[cfg(feature = "tpm")]
use self::connection::Connection;
#[cfg(fuzzing)]
pub use self::quote::is_quote;
use self::worker::Worker;
pub use self::{
    error::{SlotStep, TpmError},
    quote::{QuoteError, Quoted, SignedQuote},
    tcti::{Tcti, TctiError},
    wire::Point,
};
pub use crate::bundle::approval::{Digest, Name, name_of};
use crate::measured::pcr::{PcrIndex, PcrValues};

/// How long a whole use of the TPM may take. Chips need one to two seconds.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What enrolment noted about a TPM. Another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pins {
    /// SHA-256 of the endorsement key's `TPMT_PUBLIC`.
    pub ek_sha256: Digest,
    /// Name of the attestation key.
    pub ak_name: Name,
}

/// A TPM's two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SHA-256 of `ek_public`.
    pub ek_sha256: Digest,
    /// `TPMT_PUBLIC` of the endorsement key.
    pub ek_public: Vec<u8>,
    /// Name of the attestation key.
    pub ak_name: Name,
    /// `TPMT_PUBLIC` of the attestation key.
    pub ak_public: Vec<u8>,
    /// What the maker says about an endorsement key, if the TPM holds it. Not verified.
    pub ek_certificate: Option<EkCertificate>,
}

impl Identity {
    /// What to note at enrolment.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins { ek_sha256: self.ek_sha256, ak_name: self.ak_name }
    }
}

/// A certificate from the TPM's NV memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkCertificate {
    /// Where it lay: `0x01c0000a` certifies [`Identity::ek_public`]; `0x01c00002` certifies the TPM's RSA key, which is
    /// not used here.
    pub index: u32,
    /// X.509 in DER; some makers pad it.
    pub der: Vec<u8>,
}

/// Number of an NV index in the range that the TCG left to owners: `0x01800000` to `0x01bfffff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NvIndex(u32);

/// Not an owner's NV index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:#010x} is not an NV index for owners: those go from 0x01800000 to 0x01bfffff")]
pub struct NvIndexError(u32);

impl NvIndex {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for NvIndex {
    type Error = NvIndexError;

    fn try_from(number: u32) -> Result<Self, NvIndexError> {
        if (0x0180_0000..=0x01bf_ffff).contains(&number) {
            Ok(Self(number))
        } else {
            Err(NvIndexError(number))
        }
    }
}

impl fmt::Display for NvIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// An NV index as it is. Whether it is the slot that was enrolled, its Name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Digest over number, attributes, policy and size.
    pub name: Name,
    /// Whether anything was ever written.
    pub written: bool,
    /// What it begins with. `None` if nothing was written, or it cannot be read.
    pub bytes: Option<[u8; 40]>,
}

/// A write to a slot, with the approval that lets the TPM do it.
#[derive(Clone, Debug)]
pub struct SlotWrite {
    /// Which index.
    pub index: NvIndex,
    /// What to write: the version, big-endian, and a digest.
    pub bytes: [u8; 40],
    /// What the approval is bound to besides the bytes.
    pub condition: SlotCondition,
    /// `cpHash` of writing these bytes.
    pub cp_hash: Digest,
    /// The approved policy.
    pub approved: Digest,
    /// What the approval is for, so that the key's other signatures do not count; up to 32 bytes.
    pub policy_ref: Vec<u8>,
    /// The key that approves.
    pub authority: Point,
    /// Its signature over the approved policy and `policy_ref`.
    pub signature: Signature,
}

/// When a slot may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotCondition {
    /// Before anything was: a new index holds no version to compare with.
    First,
    /// While PCRs hold these values, and the version in the slot is less than the new one.
    Newer {
        /// The platform's state.
        pcrs: PcrValues,
    },
}

/// What the TPM's own arithmetic makes of a [`SlotWrite`]: the policy digest after each assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// After that of the PCRs.
    pub pcrs: Option<Digest>,
    /// After that of the version.
    pub version: Option<Digest>,
    /// After that of the bytes: this is what has to be approved.
    pub whole: Digest,
}

/// What a TPM says about itself. Not proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmInfo {
    /// Who made it: a vendor's code of up to four letters.
    pub manufacturer: String,
    /// The maker's words.
    pub model: String,
    /// Its firmware.
    pub firmware_version: u64,
    /// Hash algorithms with PCRs: `sha1`, `sha256`, …
    pub banks: Vec<String>,
    /// Whether the owner hierarchy has an authorization value; NV indices cannot be made then.
    pub owner_auth_set: bool,
    /// Whether the endorsement hierarchy has one; our keys cannot be made then.
    pub endorsement_auth_set: bool,
    /// Whether the lockout hierarchy has one. If not, any root can clear the TPM, and with it the slot.
    pub lockout_auth_set: bool,
    /// Whether clearing is disabled, which also protects the slot.
    pub clear_disabled: bool,
    /// Whether too many wrong authorizations locked it.
    pub in_lockout: bool,
    /// NV indices that exist.
    pub nv_indices: usize,
    /// The largest one it can hold.
    pub nv_index_max_bytes: u32,
}

/// One TPM, behind a thread of its own: one that hangs or vanishes is an error when the time is over, never a hang.
///
/// After [`TpmError::TimedOut`] the thread may be stuck in the kernel; every later request fails at once.
#[derive(Debug)]
pub struct Tpm(Worker);

impl Tpm {
    /// Connects. All requests together, this one included, have until the deadline.
    ///
    /// # Errors
    /// [`TpmError::Absent`] and its neighbours.
    pub fn open(tcti: &Tcti, deadline: Duration) -> Result<Self, TpmError> {
        Self::connect(tcti, deadline, None)
    }

    /// Connects to the enrolled TPM: its keys are made and compared before anything else, and have to prove that they
    /// are one TPM's.
    ///
    /// # Errors
    /// [`TpmError::OtherTpm`], [`TpmError::OtherAk`] and [`TpmError::NoProof`], besides those of [`Tpm::open`].
    pub fn open_pinned(tcti: &Tcti, deadline: Duration, pins: &Pins) -> Result<Self, TpmError> {
        let tpm = Self::connect(tcti, deadline, Some(*pins))?;
        tpm.prove_identity()?;
        Ok(tpm)
    }

    fn connect(tcti: &Tcti, deadline: Duration, pins: Option<Pins>) -> Result<Self, TpmError> {
        let until = Instant::now() + deadline;
        let tcti = tcti.clone();
        let worker = Worker::start(deadline, until, move || Connection::new(tcti, until, pins))?;
        worker.call(|connection| connection.open().map(drop))?;
        Ok(Self(worker))
    }

    /// What these registers of the SHA-256 bank hold, all at one moment. Not proved: compare with a quote.
    ///
    /// # Errors
    /// [`TpmError::BankMissing`], [`TpmError::PcrsMoving`].
    pub fn read_pcrs(&self, pcrs: &BTreeSet<PcrIndex>) -> Result<PcrValues, TpmError> {
        let pcrs = pcrs.clone();
        self.0.call(move |connection| connection.read_pcrs(&pcrs))
    }

    /// The TPM's keys. Not proved: see [`Tpm::prove_identity`].
    ///
    /// # Errors
    /// [`TpmError::HierarchyClosed`].
    pub fn identity(&self) -> Result<Identity, TpmError> {
        self.0.call(Connection::identity)
    }

    /// Has the TPM prove that it holds the secrets of both its keys.
    ///
    /// # Errors
    /// [`TpmError::NoProof`].
    pub fn prove_identity(&self) -> Result<(), TpmError> {
        self.0.call(Connection::prove_identity)
    }

    /// Has the attestation key sign what these registers hold, for this nonce. [`SignedQuote::verify`] judges it.
    ///
    /// # Errors
    /// [`TpmError::HierarchyClosed`].
    pub fn quote(&self, nonce: &Digest, pcrs: &BTreeSet<PcrIndex>) -> Result<SignedQuote, TpmError> {
        let (nonce, pcrs) = (*nonce, pcrs.clone());
        self.0.call(move |connection| connection.quote(&nonce, &pcrs))
    }

    /// Measures a digest into a register's SHA-256 bank.
    ///
    /// # Errors
    /// [`TpmError::Protocol`].
    pub fn extend(&self, pcr: PcrIndex, digest: &Digest) -> Result<(), TpmError> {
        let digest = *digest;
        self.0.call(move |connection| connection.extend(pcr, &digest))
    }

    /// What is under an index. `None`: there is no such index, be it that it was never enrolled or that the TPM was
    /// cleared.
    ///
    /// # Errors
    /// [`TpmError::Protocol`].
    pub fn slot(&self, index: NvIndex) -> Result<Option<Slot>, TpmError> {
        self.0.call(move |connection| connection.slot(index))
    }

    /// Makes an index that can be written under one policy only.
    ///
    /// # Errors
    /// [`TpmError::SlotExists`], [`TpmError::NvFull`], [`TpmError::HierarchyClosed`].
    pub fn define_slot(&self, index: NvIndex, auth_policy: &Digest) -> Result<(), TpmError> {
        let auth_policy = *auth_policy;
        self.0.call(move |connection| connection.define_slot(index, &auth_policy))
    }

    /// Writes a slot if the TPM lets it, and looks that it is written.
    ///
    /// **Settled only once something was measured.** A TPM compares the version when it is asserted, not when the slot is
    /// written; so a session that asserted an older version before this write may write after it. Any change of a PCR
    /// makes such sessions void. Whoever admits a policy therefore writes, measures ([`Tpm::extend`], with a register
    /// other than 16 and 21 to 23, which do not count), and then reads the slot again: what it holds then, stays.
    ///
    /// # Errors
    /// [`TpmError::PolicyRefused`] says what the TPM did not accept; [`TpmError::SlotMissing`];
    /// [`TpmError::SlotDiffers`].
    pub fn write_slot(&self, write: &SlotWrite) -> Result<(), TpmError> {
        let write = write.clone();
        self.0.call(move |connection| connection.write_slot(&write))
    }

    /// Has the TPM compute what would have to be approved for a write, as far as its conditions hold, and writes
    /// nothing.
    ///
    /// # Errors
    /// Those of [`Tpm::write_slot`] for the conditions.
    pub fn rehearse(&self, write: &SlotWrite) -> Result<Rehearsal, TpmError> {
        let write = write.clone();
        self.0.call(move |connection| connection.rehearse(&write))
    }

    /// Removes an index.
    ///
    /// # Errors
    /// [`TpmError::SlotMissing`], [`TpmError::HierarchyClosed`].
    pub fn undefine_slot(&self, index: NvIndex) -> Result<(), TpmError> {
        self.0.call(move |connection| connection.undefine_slot(index))
    }

    /// What the TPM says about itself.
    ///
    /// # Errors
    /// [`TpmError::Protocol`].
    pub fn info(&self) -> Result<TpmInfo, TpmError> {
        self.0.call(Connection::info)
    }
}
