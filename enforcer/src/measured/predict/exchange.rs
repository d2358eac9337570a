//! The log of a boot with one component exchanged.

use super::{command_line_digest, initrd_digest, pe::Image};
use crate::measured::{
    firmware::{
        FirmwareLog,
        describe::{OUT_OF_MEMORY, describe},
        event::EventKind,
    },
    pcr::{PcrIndex, PcrValue},
};

/// What is exchanged, and for what.
#[derive(Clone, Debug)]
pub enum Exchange<'a> {
    /// The kernel command line that Linux' EFI stub measures, as `/proc/cmdline` will show it.
    CommandLine(&'a str),
    /// The initrd that Linux' EFI stub measures.
    Initrd(&'a [u8]),
    /// A program that the firmware starts: boot loader, kernel or unified kernel image.
    Application {
        /// Its file's path as the log has it, such as `\EFI\debian\grubx64.efi`.
        path: &'a str,
        /// The new file.
        image: &'a Image<'a>,
    },
    /// The kernel inside a unified kernel image, which its stub has the firmware start from memory.
    InnerKernel(&'a Image<'a>),
}

/// Why a log cannot tell what another boot would measure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Nothing to exchange.
    #[error(
        "the event log has no measurement of the {0}: boot the machine with it once and take the PCRs from there"
    )]
    Missing(String),
    /// More than one.
    #[error(
        "the event log has {count} measurements of the {what}, and which one changes is unclear: boot the machine with it \
         once and take the PCRs from there"
    )]
    Ambiguous {
        /// What.
        what: String,
        /// How many.
        count: usize,
    },
}

impl Exchange<'_> {
    fn what(&self) -> String {
        match self {
            Self::CommandLine(_) => "kernel command line".to_owned(),
            Self::Initrd(_) => "initrd".to_owned(),
            Self::Application { path, .. } => format!("boot application {path}"),
            Self::InnerKernel(_) => "kernel inside a unified kernel image".to_owned(),
        }
    }

    fn digest(&self) -> PcrValue {
        match self {
            Self::CommandLine(text) => command_line_digest(text),
            Self::Initrd(content) => initrd_digest(content),
            Self::Application { image, .. } | Self::InnerKernel(image) => image.authenticode(),
        }
    }

    /// Whether an event, as the log describes it, is the one to exchange, or another measurement of the same thing.
    fn concerns(&self, pcr: PcrIndex, kind: EventKind, component: &str, text: &str) -> bool {
        match self {
            // GRUB measures both as well, in its own way and in PCR 8: found twice, they are ambiguous.
            Self::CommandLine(_) => matches!(pcr.number(), 8 | 9 | 12) && component == "kernel command line",
            Self::Initrd(_) => pcr == PcrIndex::KERNEL_INPUTS && component == "initrd",
            Self::Application { path, .. } => {
                kind == EventKind::EFI_BOOT_SERVICES_APPLICATION
                    && pcr == PcrIndex::BOOT_APPLICATIONS
                    && text.eq_ignore_ascii_case(path)
            }
            Self::InnerKernel(_) => {
                kind == EventKind::EFI_BOOT_SERVICES_APPLICATION
                    && pcr == PcrIndex::BOOT_APPLICATIONS
                    && component == OUT_OF_MEMORY
            }
        }
    }
}

/// What this boot would measure with one component exchanged. Its [`FirmwareLog::replay`] is the prediction.
///
/// # Errors
/// [`ExchangeError`], unless exactly one measurement is of that component.
pub fn exchange(log: &FirmwareLog, with: &Exchange<'_>) -> Result<FirmwareLog, ExchangeError> {
    let mut predicted = log.clone();
    let mut concerned: Vec<_> = predicted
        .events
        .iter_mut()
        .filter(|event| {
            let words = describe(event);
            with.concerns(event.pcr, event.kind, &words.component, &words.text)
        })
        .collect();
    match concerned.as_mut_slice() {
        [] => Err(ExchangeError::Missing(with.what())),
        // The stub's own format says what was hashed. A boot loader's text is part of the event and would have to change, too.
        [event] if matches!(event.kind, EventKind::EVENT_TAG | EventKind::EFI_BOOT_SERVICES_APPLICATION) => {
            event.digest = with.digest();
            Ok(predicted)
        }
        [_] => Err(ExchangeError::Missing(format!("{} by the kernel's EFI stub", with.what()))),
        several => Err(ExchangeError::Ambiguous { what: with.what(), count: several.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::{
        firmware::{
            StartupLocality,
            event::Event,
            testing::{event, utf16},
        },
        pcr::extend,
    };

    fn tagged(tag: u32, name: &str, hashed: &[u8]) -> Event {
        let len = u32::try_from(name.len()).unwrap().to_le_bytes();
        event(9, EventKind::EVENT_TAG, &[&tag.to_le_bytes()[..], &len, name.as_bytes()].concat(), hashed)
    }

    fn log() -> FirmwareLog {
        let command_line = tagged(0x8f3b_22ed, "LOADED_IMAGE::LoadOptions\0", &utf16("quiet\0"));
        let initrd = tagged(0x8f3b_22ec, "Linux initrd\0", b"old initrd");
        FirmwareLog { locality: StartupLocality::Firmware, events: vec![command_line, initrd] }
    }

    fn pcr_9(command_line: &str, initrd: &[u8]) -> PcrValue {
        [command_line_digest(command_line), initrd_digest(initrd)].into_iter().fold(PcrValue([0; 32]), extend)
    }

    #[test]
    fn the_same_component_again_changes_nothing() {
        assert_eq!(exchange(&log(), &Exchange::CommandLine("quiet")), Ok(log()));
        assert_eq!(exchange(&log(), &Exchange::Initrd(b"old initrd")), Ok(log()));
    }

    #[test]
    fn what_follows_is_kept() {
        let predicted = exchange(&log(), &Exchange::CommandLine("quiet lockdown=integrity")).unwrap();
        let expected = pcr_9("quiet lockdown=integrity", b"old initrd");
        assert_eq!(predicted.replay_of(PcrIndex::KERNEL_INPUTS), expected);
        let predicted = exchange(&log(), &Exchange::Initrd(b"new")).unwrap();
        assert_eq!(predicted.replay_of(PcrIndex::KERNEL_INPUTS), pcr_9("quiet", b"new"));
    }

    #[test]
    fn what_a_log_does_not_say_is_not_guessed() {
        let empty = FirmwareLog { locality: StartupLocality::Firmware, events: vec![] };
        assert!(matches!(exchange(&empty, &Exchange::Initrd(b"")), Err(ExchangeError::Missing(_))));
        let mut grub = log();
        let text = b"kernel_cmdline: /vmlinuz quiet\0";
        grub.events.push(event(8, EventKind::IPL, text, b"/vmlinuz quiet"));
        let expected = ExchangeError::Ambiguous { what: "kernel command line".into(), count: 2 };
        assert_eq!(exchange(&grub, &Exchange::CommandLine("x")), Err(expected));
        grub.events.remove(0);
        assert!(matches!(exchange(&grub, &Exchange::CommandLine("x")), Err(ExchangeError::Missing(_))));
    }
}
