//! What a PCR will hold after a boot that has not happened yet, so that a policy can be bound to it beforehand.
//!
//! Two ways lead there: [`exchange`](mod@exchange) takes the log of a boot that did happen and puts another command line, initrd or
//! boot application into it; [`uki`] computes PCR 11 from a unified kernel image alone. [`pe`] reads the files that both
//! look into, and has the digest by which firmware measures them.
//!
//! A prediction is only ever a claim about a boot: a wrong one makes a binding that no machine meets.

pub mod exchange;
pub mod pe;
#[cfg(test)]
pub(crate) mod testing;
pub mod uki;

use super::pcr::PcrValue;

/// What Linux' EFI stub measures for a kernel command line, as `/proc/cmdline` shows it, into PCR 9 (and systemd-stub into
/// PCR 12): UTF-16 with a NUL.
#[must_use]
pub fn command_line_digest(command_line: &str) -> PcrValue {
    let units = command_line.encode_utf16().chain([0]);
    PcrValue::digest_of(&units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
}

/// What Linux' EFI stub measures for an initrd into PCR 9: the file.
#[must_use]
pub fn initrd_digest(initrd: &[u8]) -> PcrValue {
    PcrValue::digest_of(initrd)
}
