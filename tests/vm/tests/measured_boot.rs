//! Suite `measured_boot`: several boots of one machine, one test each, in the order of `xtask/src/scenarios.rs`.
//!
//! All boots have the same firmware, kernel, initramfs and TPM, and `/share` in common; their kernel command lines differ.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

use std::{fs, path::Path};

use enforcer::measured::{
    firmware::{
        FirmwareLog,
        describe::Grounds,
        difference::{Change, explain_difference},
    },
    pcr::{PcrIndex, PcrValues, what_a_pcr_measures},
};
use enforcer_vm_tests::tpm::{Resets, Tpm, firmware_log, registers};

/// What the first boot found, for the others.
const FIRST_LOG: &str = "/share/first.log";
const FIRST_REGISTERS: &str = "/share/first.json";

/// An index among those that the TCG leaves to owners.
const INDEX: u32 = 0x0180_0e00;
const SECRET: &[u8] = b"written in the first boot";

/// Registers that firmware, boot loader and the kernel's EFI stub fill. The kernel goes on with 10.
fn boot_registers() -> impl Iterator<Item = PcrIndex> {
    PcrIndex::all().filter(|index| index.number() <= 9)
}

/// The log of this boot, which must replay to what the TPM holds.
fn proven_log() -> (Vec<u8>, FirmwareLog) {
    let (bytes, log) = firmware_log();
    let (replayed, held) = (log.replay(), registers());
    for index in boot_registers() {
        assert_eq!(replayed.get(index), held.get(index), "{}", what_a_pcr_measures(index));
    }
    for description in log.describe() {
        println!("{description}");
        assert_ne!(description.grounds, Grounds::Contradicted, "{description}");
    }
    (bytes, log)
}

fn first_boot() -> (FirmwareLog, PcrValues) {
    let log = FirmwareLog::parse(&fs::read(FIRST_LOG).unwrap()).unwrap();
    (log, serde_json::from_slice(&fs::read(FIRST_REGISTERS).unwrap()).unwrap())
}

fn assert_interface(expected: &str) {
    assert_eq!(std::env::var("ENFORCER_VM_TPM").as_deref(), Ok(expected), "the table in xtask says so");
    let driver = fs::read_link("/sys/class/tpm/tpm0/device/driver").unwrap();
    let driver = driver.file_name().unwrap().to_string_lossy().into_owned();
    assert!(driver.starts_with(&format!("tpm_{expected}")), "{driver}");
}

#[test]
fn the_log_replays_to_the_tpms_registers() {
    assert_interface("tis");
    assert!(!Path::new(FIRST_LOG).exists(), "the first boot");
    let (bytes, log) = proven_log();
    for number in [0, 1, 4, 5, 7, 9] {
        let index = PcrIndex::new(number).unwrap();
        assert!(log.events_of(index).count() > 0, "nothing measured: {}", what_a_pcr_measures(index));
    }
    fs::write(FIRST_LOG, bytes).unwrap();
    fs::write(FIRST_REGISTERS, serde_json::to_vec(&registers()).unwrap()).unwrap();
    let mut tpm = Tpm::open();
    assert_eq!(tpm.resets(), Resets(1), "a TPM that was started for the first time");
    tpm.remember(INDEX, SECRET);
    assert_eq!(tpm.recall(INDEX, SECRET.len().try_into().unwrap()), SECRET);
}

#[test]
fn another_command_line_is_named_and_the_tpm_remembers() {
    assert_interface("tis");
    let (_, found) = proven_log();
    let (expected, held_then) = first_boot();
    let held_now = registers();
    for index in boot_registers() {
        let same = held_then.get(index) == held_now.get(index);
        let difference = explain_difference(&expected, &found, index);
        assert_eq!(same, index != PcrIndex::KERNEL_INPUTS, "{}", what_a_pcr_measures(index));
        assert_eq!(difference.is_none(), same, "{difference:?}");
    }
    let difference = explain_difference(&expected, &found, PcrIndex::KERNEL_INPUTS).unwrap();
    println!("{difference}");
    let Change::Other { expected, found } = &difference.change else { panic!("{difference}") };
    for measurement in [expected, found] {
        assert_eq!(measurement.description.component, "kernel command line");
    }
    let mut tpm = Tpm::open();
    assert_eq!(tpm.recall(INDEX, SECRET.len().try_into().unwrap()), SECRET);
    assert_eq!(tpm.resets(), Resets(2), "the same TPM, started again");
}

#[test]
fn the_first_boot_again_through_the_other_interface() {
    assert_interface("crb");
    let (_, found) = proven_log();
    let (expected, held_then) = first_boot();
    let held_now = registers();
    for index in boot_registers() {
        assert_eq!(explain_difference(&expected, &found, index), None);
        assert_eq!(held_then.get(index), held_now.get(index), "{}", what_a_pcr_measures(index));
    }
    let mut tpm = Tpm::open();
    assert_eq!(tpm.recall(INDEX, SECRET.len().try_into().unwrap()), SECRET);
    assert_eq!(tpm.resets(), Resets(3), "the same TPM, started again");
}
