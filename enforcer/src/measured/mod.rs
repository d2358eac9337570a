//! What the machine measured while it booted, and what we measure: bytes in, values out.
//!
//! ```text
//! firmware's event log ─ firmware::FirmwareLog ─▶ events ─▶ replay ─▶ pcr::PcrValues   (to compare with the TPM's)
//!                                                    └────▶ describe, explain_difference (to name a boot component)
//! our own log ─ own ─▶ records ─▶ replay ─▶ the values a PCR may have after each record
//! systemd's log ─ systemd ─▶ records, and which of them are proved by their digests
//! ```
//!
//! Nothing here talks to a TPM, and nothing here trusts a log: a log only explains PCR values that came from a quote.
//! The one piece of I/O is appending to our own log, in [`own`].
#![forbid(unsafe_code)]

pub mod firmware;
pub mod own;
pub mod pcr;
pub mod predict;
mod sequence;
pub mod systemd;
