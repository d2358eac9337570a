//! The firmware's event log (`/sys/kernel/security/tpm0/binary_bios_measurements`): what was measured during boot.
//!
//! [`parse`] reads the crypto-agile format of the TCG's PC Client Platform Firmware Profile and keeps the SHA-256 digests,
//! [`FirmwareLog::replay`] computes the PCR values that they lead to, [`mod@describe`] says what an event was and whether
//! its digest proves that, and [`difference`] finds the boot component in which two boots differ.
//!
//! Firmware, boot loader and anyone who became root may have written the log. It is evidence only where it replays to
//! PCR values that came from the TPM, and even then only digests and PCR numbers are: an event's type and data are
//! not hashed, unless the data hashes to the digest.

pub mod describe;
pub mod difference;
pub mod event;
mod fields;
pub mod parse;
mod reader;
#[cfg(test)]
pub(crate) mod testing;

use self::event::Event;
use super::pcr::{PcrIndex, PcrValue, PcrValues, extend};

/// What one boot measured, in order.
///
/// Events that extend nothing (`EV_NO_ACTION`) are left out: no value of the TPM vouches for what they say. The one
/// that changes a PCR's start is [`FirmwareLog::locality`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareLog {
    /// Who started the TPM.
    pub locality: StartupLocality,
    /// What was measured.
    pub events: Vec<Event>,
}

/// From where the TPM was started, which PCR 0 begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartupLocality {
    /// By the firmware.
    #[default]
    Firmware,
    /// By code that ran before the firmware.
    Locality3,
    /// By the processor itself, which measured the first code (H-CRTM).
    Hardware,
}

impl StartupLocality {
    /// The one with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Firmware),
            3 => Some(Self::Locality3),
            4 => Some(Self::Hardware),
            _ => None,
        }
    }

    /// What the TPM calls it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Firmware => 0,
            Self::Locality3 => 3,
            Self::Hardware => 4,
        }
    }

    /// What a register held before the first event.
    #[must_use]
    pub fn start_of(self, pcr: PcrIndex) -> PcrValue {
        let mut start = pcr.start();
        if pcr == PcrIndex::FIRMWARE
            && let Some(last) = start.0.last_mut()
        {
            *last = self.number();
        }
        start
    }
}

impl FirmwareLog {
    /// Reads a log. See [`parse::parse`].
    ///
    /// # Errors
    /// [`parse::LogError`], which says where and what was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, parse::LogError> {
        parse::parse(bytes)
    }

    /// The value of every PCR when the boot loader handed over. The kernel and user space go on from there (10 to 15),
    /// which is not in this log.
    #[must_use]
    pub fn replay(&self) -> PcrValues {
        PcrIndex::all().map(|pcr| (pcr, self.replay_of(pcr))).collect()
    }

    /// One PCR's value when the boot loader handed over.
    #[must_use]
    pub fn replay_of(&self, pcr: PcrIndex) -> PcrValue {
        self.events_of(pcr).fold(self.locality.start_of(pcr), |value, event| extend(value, event.digest))
    }

    /// What was measured into one PCR, in order.
    pub fn events_of(&self, pcr: PcrIndex) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.pcr == pcr)
    }
}
