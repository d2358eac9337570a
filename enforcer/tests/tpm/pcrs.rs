use enforcer::{
    measured::pcr::{PcrIndex, PcrValue, extend},
    tpm::{QuoteError, Tpm, TpmError},
};

use super::{
    emulator::{Emulator, PATIENCE, code_of, pcr, pcrs},
    interposer::Interposer,
};

const NONCE: [u8; 32] = [7; 32];
const PCR_READ: u32 = 0x17e;
const PCR_EXTEND: u32 = 0x182;

/// A plain `TPM2_PCR_Extend` of the SHA-256 bank.
fn extend_command(number: u8, digest: [u8; 32]) -> Vec<u8> {
    let mut command =
        vec![0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, number, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    command.extend([0, 0, 0, 1, 0, 0x0b]);
    command.extend(digest);
    command
}

#[test]
fn extending_gives_what_software_computes() {
    let emulator = Emulator::start();
    let tpm = emulator.open();
    let before = tpm.read_pcrs(&pcrs(&[15])).unwrap().get(pcr(15)).unwrap();
    assert_eq!(before, PcrValue([0; 32]));
    let digest = PcrValue::digest_of(b"a policy");
    tpm.extend(pcr(15), &digest.0).unwrap();
    let after = tpm.read_pcrs(&pcrs(&[14, 15])).unwrap();
    assert_eq!(after.get(pcr(15)), Some(extend(before, digest)));
    assert_eq!(after.get(pcr(14)), Some(PcrValue([0; 32])), "another register moved");
    drop(tpm);
    assert!(emulator.loaded().is_empty());
}

#[test]
fn all_registers_are_read_at_once() {
    let emulator = Emulator::start();
    let tpm = emulator.open();
    for number in 0..16 {
        tpm.extend(pcr(number), &[number; 32]).unwrap();
    }
    let values = tpm.read_pcrs(&PcrIndex::all().collect()).unwrap();
    assert_eq!(values.len(), 24);
    for (pcr, value) in values.iter() {
        let measured = pcr.number() < 16;
        let expected = if measured { extend(pcr.start(), PcrValue([pcr.number(); 32])) } else { pcr.start() };
        assert_eq!(value, expected, "PCR {pcr}");
    }
    assert!(tpm.read_pcrs(&pcrs(&[])).unwrap().is_empty());
}

#[test]
fn a_set_that_changes_while_it_is_read_is_read_again() {
    let emulator = Emulator::start();
    let mut reads = 0;
    let interposer = Interposer::start(&emulator, move |command, tpm| {
        reads += usize::from(code_of(command) == PCR_READ);
        // Between the first eight registers and the next ones: the values of two moments.
        if code_of(command) == PCR_READ && reads == 2 {
            assert_eq!(code_of(&tpm.give(&extend_command(0, [1; 32]))), 0);
        }
        tpm.give(command)
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    let values = tpm.read_pcrs(&PcrIndex::all().collect()).unwrap();
    assert_eq!(values.get(pcr(0)), Some(extend(PcrValue([0; 32]), PcrValue([1; 32]))));
    assert_eq!(interposer.count(PCR_READ), 6, "three at first, three again");
    drop(tpm);
}

#[test]
fn registers_that_never_rest_are_an_error() {
    let emulator = Emulator::start();
    let interposer = Interposer::start(&emulator, move |command, tpm| {
        if code_of(command) == PCR_READ {
            assert_eq!(code_of(&tpm.give(&extend_command(10, [1; 32]))), 0);
        }
        tpm.give(command)
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    let error = tpm.read_pcrs(&PcrIndex::all().collect()).unwrap_err();
    assert!(matches!(error, TpmError::PcrsMoving { attempts: 5 }), "{error:?}");
    // Eight come in one answer, so they cannot be of two moments.
    assert_eq!(tpm.read_pcrs(&pcrs(&[0, 1, 2, 3, 4, 5, 6, 7])).unwrap().len(), 8);
    drop(tpm);
}

#[test]
fn a_bank_that_is_not_allocated_is_an_error() {
    let emulator = Emulator::start();
    assert_eq!(emulator.open().read_pcrs(&pcrs(&[7])).unwrap().len(), 1);
    // TPM2_PCR_Allocate by the platform: SHA-1 has all registers, SHA-256 none; from the next start on.
    let allocation = [0, 0, 0, 2, 0, 4, 3, 0xff, 0xff, 0xff, 0, 0x0b, 3, 0, 0, 0];
    emulator.authorized(0x12b, &[0x4000_000c], &allocation).unwrap();
    emulator.reset();
    let tpm = emulator.open();
    let error = tpm.read_pcrs(&pcrs(&[7, 11])).unwrap_err();
    assert!(matches!(&error, TpmError::BankMissing { missing } if *missing == pcrs(&[7, 11])), "{error:?}");
    assert!(error.to_string().contains("PCR 7+11"), "{error}");
    let banks = tpm.info().unwrap().banks;
    assert!(banks.contains(&"sha1".to_owned()) && !banks.contains(&"sha256".to_owned()), "{banks:?}");
    // A quote is then about no register, which its verification tells.
    let ak_name = tpm.identity().unwrap().ak_name;
    let quote = tpm.quote(&NONCE, &pcrs(&[7])).unwrap();
    let error = quote.verify(&ak_name, &NONCE, &pcrs(&[7])).unwrap_err();
    assert!(matches!(error, QuoteError::Selection { .. } | QuoteError::Malformed), "{error:?}");
}

#[test]
fn a_quote_says_what_was_read_unless_a_register_moved() {
    let emulator = Emulator::start();
    let tpm = emulator.open();
    let (ak_name, wanted) = (tpm.identity().unwrap().ak_name, pcrs(&[0, 7, 15]));
    let read = tpm.read_pcrs(&wanted).unwrap();
    let quoted = tpm.quote(&NONCE, &wanted).unwrap().verify(&ak_name, &NONCE, &wanted).unwrap();
    assert_eq!(quoted.composite, read.composite());
    tpm.extend(pcr(15), &[1; 32]).unwrap();
    let quoted = tpm.quote(&NONCE, &wanted).unwrap().verify(&ak_name, &NONCE, &wanted).unwrap();
    assert_ne!(quoted.composite, read.composite());
    assert_eq!(quoted.composite, tpm.read_pcrs(&wanted).unwrap().composite());
}

#[test]
fn a_quote_counts_for_its_nonce_registers_and_key_only() {
    let (emulator, other) = (Emulator::start(), Emulator::start());
    let (tpm, other) = (emulator.open(), other.open());
    let (ak_name, wanted) = (tpm.identity().unwrap().ak_name, pcrs(&[7, 15]));
    let quote = tpm.quote(&NONCE, &wanted).unwrap();
    assert!(quote.verify(&ak_name, &NONCE, &wanted).is_ok());
    assert_eq!(quote.verify(&ak_name, &[8; 32], &wanted), Err(QuoteError::Nonce));
    let error = quote.verify(&ak_name, &NONCE, &pcrs(&[7])).unwrap_err();
    assert!(matches!(error, QuoteError::Selection { .. }), "{error:?}");
    let foreign = other.quote(&NONCE, &wanted).unwrap();
    let error = foreign.verify(&ak_name, &NONCE, &wanted).unwrap_err();
    assert!(matches!(error, QuoteError::OtherKey { expected, .. } if expected == ak_name), "{error:?}");
    // The right key's public half does not help the wrong signature.
    let mixed = enforcer::tpm::SignedQuote { ak_public: quote.ak_public.clone(), ..foreign };
    assert_eq!(mixed.verify(&ak_name, &NONCE, &wanted), Err(QuoteError::Signature));
}

#[test]
fn a_reset_under_the_system_shows_though_registers_can_be_replayed() {
    let emulator = Emulator::start();
    let wanted = pcrs(&[15]);
    let quoted = |tpm: &Tpm| {
        let ak_name = tpm.identity().unwrap().ak_name;
        tpm.quote(&NONCE, &wanted).unwrap().verify(&ak_name, &NONCE, &wanted).unwrap()
    };
    let tpm = emulator.open();
    let (identity, digest) = (tpm.identity().unwrap(), [3; 32]);
    tpm.extend(pcr(15), &digest).unwrap();
    let before = quoted(&tpm);
    drop(tpm);
    emulator.reset();
    let tpm = emulator.open();
    tpm.extend(pcr(15), &digest).unwrap();
    let after = quoted(&tpm);
    assert_eq!(after.composite, before.composite, "the log was replayed");
    assert_eq!(after.reset_count, before.reset_count + 1);
    assert_eq!(tpm.identity().unwrap(), identity, "the keys are made from the same seed");
    drop(tpm);
    // In the owner hierarchy, the count in a quote would be obfuscated.
    assert_eq!(after.reset_count, emulator.reset_count());
}

#[test]
fn an_interposer_cannot_change_what_is_extended() {
    let emulator = Emulator::start();
    let interposer = Interposer::start(&emulator, |command, tpm| {
        let mut command = command.to_vec();
        if code_of(&command) == PCR_EXTEND {
            *command.last_mut().unwrap() ^= 1;
        }
        tpm.give(&command)
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    let error = tpm.extend(pcr(15), &[1; 32]).unwrap_err();
    assert!(matches!(error, TpmError::Protocol { command: "TPM2_PCR_Extend", .. }), "{error:?}");
    assert_eq!(tpm.read_pcrs(&pcrs(&[15])).unwrap().get(pcr(15)), Some(PcrValue([0; 32])));
    drop(tpm);
    drop(interposer);
    assert!(emulator.loaded().is_empty(), "a failed command leaves nothing behind");
}

#[test]
fn an_interposer_cannot_swallow_what_is_extended() {
    let emulator = Emulator::start();
    let interposer = Interposer::start(&emulator, |command, tpm| {
        if code_of(command) == PCR_EXTEND {
            // What a TPM answers to a command in one session, without knowing the session's key.
            let mut response = vec![0x80, 2, 0, 0, 0, 83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32];
            response.extend([9; 32]);
            response.extend([1, 0, 32]);
            response.extend([9; 32]);
            return response;
        }
        tpm.give(command)
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    assert!(tpm.extend(pcr(15), &[1; 32]).is_err());
    drop(tpm);
}
