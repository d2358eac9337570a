//! The firmware's event log of real boots, beside what the TPM held after each.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::PathBuf;

use enforcer::measured::{
    firmware::{
        FirmwareLog,
        describe::Grounds,
        difference::{Change, explain_difference},
    },
    pcr::{PcrIndex, PcrValue, PcrValues},
    predict::{
        command_line_digest,
        exchange::{Exchange, exchange},
    },
};

const BOOTS: &[&str] =
    &["ovmf-6.1-tis", "ovmf-6.12-tis", "ovmf-6.12-crb", "ovmf-6.12-tis-other-command-line", "ovmf-7.3-crb"];

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/measured").join(name)
}

fn log(boot: &str) -> FirmwareLog {
    FirmwareLog::parse(&std::fs::read(data(&format!("{boot}.log"))).unwrap()).unwrap()
}

/// What the TPM said: a line per register.
fn registers(boot: &str) -> PcrValues {
    let text = std::fs::read_to_string(data(&format!("{boot}.pcrs"))).unwrap();
    let line = |line: &str| {
        let (index, value) = line.split_once(' ').unwrap();
        (index.parse::<PcrIndex>().unwrap(), value.parse::<PcrValue>().unwrap())
    };
    text.lines().map(line).collect()
}

fn pcr(number: u8) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

#[test]
fn the_log_replays_to_what_the_tpm_held() {
    for boot in BOOTS {
        let (replayed, held) = (log(boot).replay(), registers(boot));
        assert_eq!(held.len(), 24, "{boot}");
        // The kernel measures into 10 while it runs, of which the firmware knows nothing.
        for index in PcrIndex::all().filter(|index| index.number() != 10) {
            assert_eq!(replayed.get(index), held.get(index), "{boot}: PCR {index}");
        }
    }
}

#[test]
fn every_event_is_explained_and_none_is_contradicted() {
    for boot in BOOTS {
        for description in log(boot).describe() {
            assert_ne!(description.grounds, Grounds::Contradicted, "{boot}: {description}");
            assert!(!description.component.starts_with("EV_"), "{boot}: {description}");
        }
    }
}

#[test]
fn a_boot_in_words() {
    let words: Vec<String> = log("ovmf-6.12-tis").describe().map(|it| it.to_string()).collect();
    let expected = [
        "PCR 0: firmware version",
        "PCR 0: firmware volume (as the log says)",
        "PCR 0: firmware volume (as the log says)",
        "PCR 7: Secure Boot state `off`",
        "PCR 7: Secure Boot policy: PK `empty`",
        "PCR 7: Secure Boot policy: KEK `empty`",
        "PCR 7: Secure Boot policy: db `empty`",
        "PCR 7: Secure Boot policy: dbx `empty`",
        "PCR 7: end of the firmware's measurements",
        "PCR 4: kernel image `kernel` (as the log says)",
        "PCR 1: boot order `0000`",
        "PCR 1: boot entry `Boot0000 UiApp`",
        "PCR 4: firmware action `Calling EFI Application from Boot Option`",
        "PCR 0: end of the firmware's measurements",
        "PCR 1: end of the firmware's measurements",
        "PCR 2: end of the firmware's measurements",
        "PCR 3: end of the firmware's measurements",
        "PCR 4: end of the firmware's measurements",
        "PCR 5: end of the firmware's measurements",
        "PCR 6: end of the firmware's measurements",
        "PCR 9: kernel command line `LOADED_IMAGE::LoadOptions` (as the log says)",
        "PCR 9: initrd `Linux initrd` (as the log says)",
        "PCR 5: firmware action `Exit Boot Services Invocation`",
        "PCR 5: firmware action `Exit Boot Services Returned with Success`",
    ];
    assert_eq!(words, expected);
}

#[test]
fn another_command_line_is_found_and_named() {
    let (expected, found) = (log("ovmf-6.12-tis"), log("ovmf-6.12-tis-other-command-line"));
    let differing: Vec<u8> = PcrIndex::all()
        .filter(|index| explain_difference(&expected, &found, *index).is_some())
        .map(PcrIndex::number)
        .collect();
    assert_eq!(differing, [9]);
    let difference = explain_difference(&expected, &found, pcr(9)).unwrap();
    assert_eq!(difference.same, 0);
    assert!(matches!(difference.change, Change::Other { .. }), "{difference}");
    assert!(
        difference.to_string().starts_with("PCR 9: kernel command line `LOADED_IMAGE::LoadOptions`"),
        "{difference}"
    );
}

#[test]
fn a_log_that_was_changed_does_not_replay() {
    let bytes = std::fs::read(data("ovmf-6.12-tis.log")).unwrap();
    let original = FirmwareLog::parse(&bytes).unwrap();
    let held = registers("ovmf-6.12-tis");
    for event in &original.events {
        let mut changed = original.clone();
        changed.events.iter_mut().find(|it| it.offset == event.offset).unwrap().digest.0[0] ^= 0x80;
        assert_ne!(Some(changed.replay_of(event.pcr)), held.get(event.pcr), "{event:?}");
    }
}

#[test]
fn a_unified_kernel_image_in_words() {
    let log = log("ovmf-uki-6.12-tis");
    let sections: Vec<String> =
        log.describe().filter(|it| it.pcr == pcr(11)).map(|it| it.to_string()).collect();
    let expected: Vec<String> = [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]
        .iter()
        .flat_map(|name| {
            let words = format!("PCR 11: unified kernel section {name}");
            [words.clone(), format!("{words} (as the log says)")]
        })
        .collect();
    assert_eq!(sections, expected);
    let applications: Vec<String> = log
        .describe()
        .filter(|it| it.pcr == pcr(4) && !it.text.starts_with("Calling"))
        .map(|it| it.to_string())
        .collect();
    assert_eq!(
        applications,
        [
            "PCR 4: end of the firmware's measurements",
            "PCR 4: default boot loader `\\EFI\\BOOT\\BOOTX64.EFI` (as the log says)",
            "PCR 4: boot application out of memory (as the log says)",
        ]
    );
    let command_line = log.events_of(pcr(9)).next().unwrap().digest;
    assert_eq!(command_line, command_line_digest("console=ttyS0 lockdown=integrity"));
}

#[test]
fn a_boot_with_another_command_line_is_predicted() {
    let predicted =
        exchange(&log("ovmf-6.12-tis"), &Exchange::CommandLine("console=ttyS0 lockdown=none initrd=initrd"))
            .unwrap();
    let happened = registers("ovmf-6.12-tis-other-command-line");
    for index in PcrIndex::all().filter(|index| index.number() <= 9) {
        assert_eq!(predicted.replay().get(index), happened.get(index), "PCR {index}");
    }
}
