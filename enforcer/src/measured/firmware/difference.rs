//! In what two boots differ: the boot component that a refusal has to name.

use std::fmt;

use super::{
    FirmwareLog, StartupLocality,
    describe::{Description, describe},
};
use crate::measured::pcr::{PcrIndex, PcrValue, what_a_pcr_measures};

/// The first place where two boots measured something else into a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The register.
    pub pcr: PcrIndex,
    /// How many measurements into it are the same in both.
    pub same: usize,
    /// What comes then.
    pub change: Change,
}

/// What is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The register began with another value.
    Start {
        /// Who should have started the TPM.
        expected: StartupLocality,
        /// Who did.
        found: StartupLocality,
    },
    /// Another measurement.
    Other {
        /// What should have come.
        expected: Measurement,
        /// What came.
        found: Measurement,
    },
    /// Nothing came any more.
    Missing(Measurement),
    /// Something came where nothing should.
    Added(Measurement),
}

/// A measurement and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// In words.
    pub description: Description,
    /// What was measured.
    pub digest: PcrValue,
}

/// Finds the first measurement into this register that differs. `None`: both lead to the same value.
#[must_use]
pub fn explain_difference(expected: &FirmwareLog, found: &FirmwareLog, pcr: PcrIndex) -> Option<Difference> {
    let difference = |same, change| Some(Difference { pcr, same, change });
    if expected.locality.start_of(pcr) != found.locality.start_of(pcr) {
        return difference(0, Change::Start { expected: expected.locality, found: found.locality });
    }
    let (mut wanted, mut there) = (expected.events_of(pcr), found.events_of(pcr));
    let measurement = |event| Measurement { description: describe(event), digest: event.digest };
    let mut same = 0;
    loop {
        let change = match (wanted.next(), there.next()) {
            (None, None) => return None,
            (Some(expected), Some(found)) if expected.digest == found.digest => {
                same += 1;
                continue;
            }
            (Some(expected), Some(found)) => {
                Change::Other { expected: measurement(expected), found: measurement(found) }
            }
            (Some(expected), None) => Change::Missing(measurement(expected)),
            (None, Some(found)) => Change::Added(measurement(found)),
        };
        return difference(same, change);
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.same + 1;
        match &self.change {
            Change::Start { expected, found } => {
                let (expected, found) = (expected.number(), found.number());
                write!(
                    f,
                    "{}: the TPM was started from locality {found} instead of {expected}",
                    what_a_pcr_measures(self.pcr)
                )
            }
            Change::Other { expected, found } if same_words(expected, found) => write!(
                f,
                "{} is another one: measurement {number} is sha256:{}, expected sha256:{}",
                found.description, found.digest, expected.digest
            ),
            Change::Other { expected, found } => write!(
                f,
                "{} (sha256:{}) instead of {} (sha256:{}) as measurement {number}",
                found.description, found.digest, expected.description, expected.digest
            ),
            Change::Missing(it) => write!(
                f,
                "{} (sha256:{}) was not measured; it was expected as measurement {number}",
                it.description, it.digest
            ),
            Change::Added(it) => write!(
                f,
                "{} (sha256:{}) was measured in addition, as measurement {number}",
                it.description, it.digest
            ),
        }
    }
}

/// Whether both are said to be the same thing, with other contents.
fn same_words(expected: &Measurement, found: &Measurement) -> bool {
    expected.description.component == found.description.component
        && expected.description.text == found.description.text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::firmware::{event::EventKind, testing::event};

    fn log(events: &[(u8, &str, &str)]) -> FirmwareLog {
        let events = events.iter().map(|(pcr, says, hashed)| {
            event(*pcr, EventKind::IPL, format!("{says}\0").as_bytes(), hashed.as_bytes())
        });
        FirmwareLog { locality: StartupLocality::Firmware, events: events.collect() }
    }

    fn explained(expected: &[(u8, &str, &str)], found: &[(u8, &str, &str)]) -> Option<String> {
        let pcr = PcrIndex::KERNEL_INPUTS;
        let difference = explain_difference(&log(expected), &log(found), pcr);
        let equal = log(expected).replay_of(pcr) == log(found).replay_of(pcr);
        assert_eq!(difference.is_none(), equal, "a difference in value is a difference in words");
        Some(difference?.to_string())
    }

    const KERNEL: (u8, &str, &str) = (9, "/vmlinuz", "kernel");
    const INITRD: (u8, &str, &str) = (9, "/initrd", "initrd");

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(explained(&[KERNEL, INITRD], &[KERNEL, INITRD]), None);
        // Words may differ, and other registers: the value is the same.
        assert_eq!(explained(&[KERNEL], &[(9, "/renamed", "kernel"), (8, "x", "x")]), None);
        let text = explained(&[KERNEL, INITRD], &[KERNEL, (9, "/initrd", "evil")]).unwrap();
        assert!(
            text.starts_with("PCR 9: initrd `/initrd` (as the log says) is another one: measurement 2 is"),
            "{text}"
        );
        let text = explained(&[KERNEL, INITRD], &[(9, "/other", "evil"), INITRD]).unwrap();
        assert!(text.starts_with("PCR 9: file that GRUB read `/other` (as the log says)"), "{text}");
        assert!(text.contains(" instead of PCR 9: kernel image `/vmlinuz`"), "{text}");
        let text = explained(&[KERNEL, INITRD], &[KERNEL]).unwrap();
        assert!(text.starts_with("PCR 9: initrd") && text.contains("was not measured"), "{text}");
        let text = explained(&[KERNEL], &[KERNEL, INITRD]).unwrap();
        assert!(
            text.starts_with("PCR 9: initrd") && text.contains("in addition, as measurement 2"),
            "{text}"
        );
    }

    #[test]
    fn another_start_is_a_difference_of_pcr_0_alone() {
        let hardware = FirmwareLog { locality: StartupLocality::Hardware, ..log(&[]) };
        let text = explain_difference(&log(&[]), &hardware, PcrIndex::FIRMWARE).unwrap().to_string();
        assert_eq!(text, "PCR 0: firmware code: the TPM was started from locality 4 instead of 0");
        assert_eq!(explain_difference(&log(&[]), &hardware, PcrIndex::KERNEL_INPUTS), None);
    }
}
