use enforcer::tpm::{EkCertificate, Pins, Tpm, TpmError};

use super::{
    emulator::{Emulator, PATIENCE, code_of, pcr, pcrs},
    interposer::Interposer,
};

const CREATE_PRIMARY: u32 = 0x131;

fn pins(emulator: &Emulator) -> Pins {
    emulator.open().identity().unwrap().pins()
}

#[test]
fn the_enrolled_tpm_is_known_again() {
    let emulator = Emulator::start();
    let pins = pins(&emulator);
    let tpm = Tpm::open_pinned(&emulator.tcti(), PATIENCE, &pins).unwrap();
    let identity = tpm.identity().unwrap();
    assert_eq!(identity.pins(), pins);
    assert_ne!(identity.ek_public, identity.ak_public);
    assert_eq!(identity.ek_certificate, None, "a bare emulator has none");
    tpm.extend(pcr(15), &[1; 32]).unwrap();
    drop(tpm);
    assert!(emulator.loaded().is_empty());
}

#[test]
fn another_tpm_is_refused_before_it_is_used() {
    let (enrolled, false_one) = (Emulator::start(), Emulator::start());
    let pins = pins(&enrolled);
    let interposer = Interposer::start(&false_one, |command, tpm| tpm.give(command));
    let error = Tpm::open_pinned(&interposer.tcti(), PATIENCE, &pins).unwrap_err();
    let found = self::pins(&false_one).ek_sha256;
    assert!(
        matches!(error, TpmError::OtherTpm { expected, found: other } if expected == pins.ek_sha256 && other == found),
        "{error:?}"
    );
    assert_eq!(interposer.count(CREATE_PRIMARY), 1, "it made its endorsement key");
    let used = [0x176, 0x182, 0x14e, 0x158, 0x137, 0x12a].map(|command| interposer.count(command));
    assert_eq!(used, [0; 6], "sessions, extends, NV, quotes");
    assert!(false_one.loaded().is_empty(), "refusing flushes, too");
}

#[test]
fn another_attestation_key_is_refused() {
    let emulator = Emulator::start();
    let mut pins = pins(&emulator);
    pins.ak_name[33] ^= 1;
    let error = Tpm::open_pinned(&emulator.tcti(), PATIENCE, &pins).unwrap_err();
    assert!(matches!(error, TpmError::OtherAk { expected, .. } if expected == pins.ak_name), "{error:?}");
    assert!(emulator.loaded().is_empty());
}

#[test]
fn a_tpm_that_only_shows_the_enrolled_ones_public_keys_is_refused() {
    let (enrolled, false_one) = (Emulator::start(), Emulator::start());
    // What the real one answers when its keys are made; handles are the same, as both make the endorsement key first.
    let mut recorded = Vec::new();
    let (answers, from_recorder) = std::sync::mpsc::channel();
    let recorder = Interposer::start(&enrolled, move |command, tpm| {
        let response = tpm.give(command);
        if code_of(command) == CREATE_PRIMARY {
            answers.send(response.clone()).unwrap();
        }
        response
    });
    let tpm = Tpm::open(&recorder.tcti(), PATIENCE).unwrap();
    let pins = tpm.identity().unwrap().pins();
    drop(tpm);
    drop(recorder);
    recorded.extend(from_recorder.iter());
    assert_eq!(recorded.len(), 2, "two keys");
    let mut replay = recorded.into_iter();
    let interposer = Interposer::start(&false_one, move |command, tpm| {
        let response = tpm.give(command);
        if code_of(command) == CREATE_PRIMARY { replay.next().unwrap_or(response) } else { response }
    });
    let error = Tpm::open_pinned(&interposer.tcti(), PATIENCE, &pins).unwrap_err();
    assert!(matches!(error, TpmError::NoProof), "{error:?}");
    drop(interposer);
    assert!(false_one.loaded().is_empty());
}

#[test]
fn an_unproved_endorsement_key_makes_no_sessions() {
    let (enrolled, false_one) = (Emulator::start(), Emulator::start());
    let mut first = None;
    let recorded = {
        let (answer, answers) = std::sync::mpsc::channel();
        let recorder = Interposer::start(&enrolled, move |command, tpm| {
            let response = tpm.give(command);
            if code_of(command) == CREATE_PRIMARY {
                answer.send(response.clone()).unwrap();
            }
            response
        });
        let tpm = Tpm::open(&recorder.tcti(), PATIENCE).unwrap();
        tpm.extend(pcr(15), &[1; 32]).unwrap();
        drop(tpm);
        drop(recorder);
        answers.recv().unwrap()
    };
    let interposer = Interposer::start(&false_one, move |command, tpm| {
        let response = tpm.give(command);
        let is_first = code_of(command) == CREATE_PRIMARY && first.replace(()).is_none();
        if is_first { recorded.clone() } else { response }
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    // The salt is encrypted to a key that this TPM does not have.
    assert!(tpm.extend(pcr(15), &[1; 32]).is_err());
    drop(tpm);
    drop(interposer);
    let values = false_one.open().read_pcrs(&pcrs(&[15])).unwrap();
    assert_eq!(values.get(pcr(15)), Some(pcr(15).start()), "nothing was measured");
}

#[test]
fn the_makers_certificate_is_found() {
    let emulator = Emulator::start();
    let certificate = b"stands for a certificate, which only its reader has to understand".repeat(30);
    emulator.hold(0x01c0_000a, &certificate);
    let found = emulator.open().identity().unwrap().ek_certificate;
    assert_eq!(found, Some(EkCertificate { index: 0x01c0_000a, der: certificate }));
    assert!(emulator.loaded().is_empty());
}

#[test]
fn what_it_says_about_itself() {
    let emulator = Emulator::start();
    let tpm = emulator.open();
    let info = tpm.info().unwrap();
    assert_eq!(info.manufacturer, "IBM");
    assert!(info.banks.iter().any(|bank| bank == "sha256"), "{info:?}");
    assert!(!info.lockout_auth_set && !info.owner_auth_set && !info.endorsement_auth_set && !info.in_lockout);
    assert!(info.nv_index_max_bytes >= 40 && info.firmware_version != 0, "{info:?}");
    assert_eq!(info.nv_indices, 0);
    let quote = tpm.quote(&[0; 32], &pcrs(&[7])).unwrap();
    let ak_name = tpm.identity().unwrap().ak_name;
    let quoted = quote.verify(&ak_name, &[0; 32], &pcrs(&[7])).unwrap();
    assert_eq!(quoted.firmware_version, info.firmware_version);
    drop(tpm);
    // TPM2_HierarchyChangeAuth of the lockout hierarchy.
    emulator.authorized(0x129, &[0x4000_000a], &[0, 4, 1, 2, 3, 4]).unwrap();
    assert!(emulator.open().info().unwrap().lockout_auth_set);
}

#[test]
fn a_closed_hierarchy_is_named() {
    let emulator = Emulator::start();
    emulator.authorized(0x129, &[0x4000_000b], &[0, 4, 1, 2, 3, 4]).unwrap();
    let tpm = emulator.open();
    assert!(tpm.info().unwrap().endorsement_auth_set);
    let error = tpm.identity().unwrap_err();
    assert!(matches!(error, TpmError::HierarchyClosed { hierarchy: "endorsement", .. }), "{error:?}");
    drop(tpm);
    assert!(emulator.loaded().is_empty());
}
