use std::thread;

use enforcer::{
    measured::pcr::PcrValues,
    tpm::{NvIndex, Rehearsal, SlotStep, SlotWrite, Tpm, TpmError},
};

use super::{
    authority::{Authority, record, sha256},
    emulator::{Emulator, PATIENCE, code_of, pcr, pcrs},
    interposer::Interposer,
};

const OWNER: u32 = 0x4000_0001;
const NV_WRITE: u32 = 0x137;
const NV_DEFINE: u32 = 0x12a;

/// A TPM with a slot that holds the empty record.
fn enrolled(emulator: &Emulator) -> (Tpm, Authority, PcrValues) {
    let (tpm, authority) = (emulator.open(), Authority::new());
    tpm.define_slot(authority.index, &authority.auth_policy()).unwrap();
    tpm.write_slot(&authority.first()).unwrap();
    let state = tpm.read_pcrs(&pcrs(&[7, 15])).unwrap();
    (tpm, authority, state)
}

fn held(tpm: &Tpm, authority: &Authority) -> Option<[u8; 40]> {
    tpm.slot(authority.index).unwrap().unwrap().bytes
}

fn refused(tpm: &Tpm, write: &SlotWrite) -> SlotStep {
    match tpm.write_slot(write).unwrap_err() {
        TpmError::PolicyRefused { step, .. } => step,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_slot_from_definition_to_removal() {
    let emulator = Emulator::start();
    let (tpm, authority) = (emulator.open(), Authority::new());
    let index = authority.index;
    assert_eq!(tpm.slot(index).unwrap(), None);
    assert!(
        matches!(tpm.write_slot(&authority.first()).unwrap_err(), TpmError::SlotMissing(other) if other == index)
    );
    assert!(matches!(tpm.undefine_slot(index).unwrap_err(), TpmError::SlotMissing(_)));
    tpm.define_slot(index, &authority.auth_policy()).unwrap();
    let slot = tpm.slot(index).unwrap().unwrap();
    assert_eq!((slot.name, slot.written, slot.bytes), (authority.slot_name(false), false, None));
    let error = tpm.define_slot(index, &authority.auth_policy()).unwrap_err();
    assert!(matches!(error, TpmError::SlotExists(other) if other == index), "{error:?}");
    tpm.write_slot(&authority.first()).unwrap();
    let slot = tpm.slot(index).unwrap().unwrap();
    assert_eq!((slot.name, slot.written, slot.bytes), (authority.slot_name(true), true, Some([0; 40])));
    let state = tpm.read_pcrs(&pcrs(&[7, 15])).unwrap();
    tpm.write_slot(&authority.version(5, "five", &state)).unwrap();
    assert_eq!(held(&tpm, &authority), Some(record(5, "five")));
    tpm.write_slot(&authority.version(7, "seven", &state)).unwrap();
    drop(tpm);
    emulator.reset();
    let tpm = emulator.open();
    assert_eq!(held(&tpm, &authority), Some(record(7, "seven")), "it survives a reset");
    tpm.undefine_slot(index).unwrap();
    assert_eq!(tpm.slot(index).unwrap(), None);
    drop(tpm);
    assert!(emulator.loaded().is_empty());
}

#[test]
fn the_tpms_arithmetic_is_ours() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    let write = authority.version(5, "five", &state);
    let policy = authority.policy(&write.bytes, &state);
    let expected = Rehearsal { pcrs: Some(policy.pcrs), version: Some(policy.version), whole: policy.whole };
    assert_eq!(tpm.rehearse(&write).unwrap(), expected);
    assert_eq!(tpm.rehearse(&write).unwrap().whole, write.approved);
    assert_eq!(held(&tpm, &authority), Some([0; 40]), "a rehearsal writes nothing");
    let first = authority.first();
    let expected = Rehearsal { pcrs: None, version: None, whole: first.approved };
    assert_eq!(tpm.rehearse(&first).unwrap(), expected);
    // Also of many registers.
    let state = tpm.read_pcrs(&pcrs(&[0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 14, 23])).unwrap();
    let write = authority.version(u64::MAX, "last", &state);
    assert_eq!(tpm.rehearse(&write).unwrap().whole, write.approved);
    tpm.write_slot(&write).unwrap();
    drop(tpm);
    assert!(emulator.loaded().is_empty());
}

#[test]
fn the_tpm_refuses_what_is_not_newer() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    let (five, six) = (authority.version(5, "five", &state), authority.version(6, "six", &state));
    tpm.write_slot(&five).unwrap();
    assert_eq!(refused(&tpm, &five), SlotStep::Version, "the same again");
    assert_eq!(refused(&tpm, &authority.version(5, "other five", &state)), SlotStep::Version);
    tpm.write_slot(&six).unwrap();
    assert_eq!(refused(&tpm, &five), SlotStep::Version, "a rollback, validly signed");
    // Numbers compare as numbers, not as text or by their last bytes.
    tpm.write_slot(&authority.version(256, "256", &state)).unwrap();
    assert_eq!(refused(&tpm, &authority.version(255, "255", &state)), SlotStep::Version);
    assert_eq!(held(&tpm, &authority), Some(record(256, "256")));
    // The first write was approved once, for the index before it was written.
    assert_eq!(refused(&tpm, &authority.first()), SlotStep::Write);
    assert_eq!(held(&tpm, &authority), Some(record(256, "256")));
    drop(tpm);
    assert!(emulator.loaded().is_empty(), "refusals leave nothing behind");
}

#[test]
fn the_tpm_refuses_other_bytes_than_were_approved() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    let five = authority.version(5, "five", &state);
    let mut forged = SlotWrite { bytes: record(5, "other"), ..five.clone() };
    assert_eq!(refused(&tpm, &forged), SlotStep::Write, "the approved bytes' cpHash");
    forged.cp_hash = authority.version(5, "other", &state).cp_hash;
    assert_eq!(refused(&tpm, &forged), SlotStep::Approval, "their own cpHash");
    forged.approved = authority.version(5, "other", &state).approved;
    assert_eq!(refused(&tpm, &forged), SlotStep::Signature, "their own policy, not signed");
    // Version 9 was never approved, whatever comes with it.
    let newer = SlotWrite { bytes: record(9, "five"), ..five.clone() };
    assert_eq!(refused(&tpm, &newer), SlotStep::Approval);
    assert_eq!(held(&tpm, &authority), Some([0; 40]));
    tpm.write_slot(&five).unwrap();
}

#[test]
fn the_tpm_refuses_other_keys_and_other_uses_of_the_key() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    let five = authority.version(5, "five", &state);
    let stranger = Authority::new().version(5, "five", &state);
    // The stranger's signature as the authority's.
    let forged = SlotWrite { signature: stranger.signature, ..five.clone() };
    assert_eq!(refused(&tpm, &forged), SlotStep::Signature);
    // The stranger's key and signature over the right policy: valid, but the slot is not theirs.
    let approved = Authority::new();
    let forged = {
        let other = approved.version(5, "five", &state);
        SlotWrite { approved: other.approved, ..other }
    };
    let step = refused(&tpm, &forged);
    assert!(matches!(step, SlotStep::Approval | SlotStep::Write), "{step:?}");
    // A signature for something else.
    let forged = SlotWrite { policy_ref: b"test/other/v1".to_vec(), ..five.clone() };
    assert_eq!(refused(&tpm, &forged), SlotStep::Signature);
    assert_eq!(held(&tpm, &authority), Some([0; 40]));
    tpm.write_slot(&five).unwrap();
}

#[test]
fn the_tpm_refuses_another_platform_state() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    let (five, mut six) = (authority.version(5, "five", &state), authority.version(6, "six", &state));
    tpm.write_slot(&five).unwrap();
    tpm.extend(pcr(15), &[1; 32]).unwrap();
    assert_eq!(refused(&tpm, &six), SlotStep::Pcrs);
    // Claiming the present state gets further, but nobody approved that.
    let now = tpm.read_pcrs(&pcrs(&[7, 15])).unwrap();
    six.condition = enforcer::tpm::SlotCondition::Newer { pcrs: now.clone() };
    assert_eq!(refused(&tpm, &six), SlotStep::Approval);
    assert_eq!(held(&tpm, &authority), Some(record(5, "five")));
    tpm.write_slot(&authority.version(6, "six", &now)).unwrap();
}

#[test]
fn a_register_that_moves_during_the_write_is_noticed() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    drop(tpm);
    let interposer = Interposer::start(&emulator, |command, tpm| {
        if code_of(command) == NV_WRITE {
            let mut extend = vec![
                0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 15, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0,
            ];
            extend.extend([0, 0, 0, 1, 0, 0x0b]);
            extend.extend([1; 32]);
            assert_eq!(code_of(&tpm.give(&extend)), 0);
        }
        tpm.give(command)
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    assert_eq!(refused(&tpm, &authority.version(5, "five", &state)), SlotStep::Pcrs);
    assert_eq!(held(&tpm, &authority), Some([0; 40]));
    drop(tpm);
}

#[test]
fn a_slot_cannot_be_written_by_the_owner_or_with_a_password() {
    let emulator = Emulator::start();
    let (tpm, authority, _) = enrolled(&emulator);
    drop(tpm);
    let index = authority.index.number();
    let data = [&[0, 40][..], &record(9, "forged"), &[0, 0]].concat();
    // TPM_RC_NV_AUTHORIZATION; TPM_RC_AUTH_UNAVAILABLE.
    assert_eq!(emulator.authorized(NV_WRITE, &[OWNER, index], &data), Err(0x149));
    assert_eq!(emulator.authorized(NV_WRITE, &[index, index], &data), Err(0x12f));
    assert_eq!(held(&emulator.open(), &authority), Some([0; 40]));
}

#[test]
fn a_replaced_slot_has_another_name() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    tpm.write_slot(&authority.version(5, "five", &state)).unwrap();
    tpm.undefine_slot(authority.index).unwrap();
    let attacker = Authority::new();
    tpm.define_slot(attacker.index, &attacker.auth_policy()).unwrap();
    tpm.write_slot(&attacker.first()).unwrap();
    tpm.write_slot(&attacker.version(4, "four", &state)).unwrap();
    let slot = tpm.slot(authority.index).unwrap().unwrap();
    assert_eq!(slot.bytes, Some(record(4, "four")));
    assert_ne!(slot.name, authority.slot_name(true));
    // Approvals for the real slot are of no use in the false one.
    let step = refused(&tpm, &authority.version(6, "six", &state));
    assert!(matches!(step, SlotStep::Approval | SlotStep::Write), "{step:?}");
    drop(tpm);
    // Nor is an index of another kind taken for a slot: eight bytes that the owner writes.
    let index = authority.index;
    let tpm = emulator.open();
    tpm.undefine_slot(index).unwrap();
    drop(tpm);
    define(&emulator, index.number(), 8).unwrap();
    emulator.authorized(NV_WRITE, &[OWNER, index.number()], &[0, 8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]).unwrap();
    let slot = emulator.open().slot(index).unwrap().unwrap();
    assert_eq!((slot.written, slot.bytes), (true, None));
    assert_ne!(slot.name, authority.slot_name(true));
}

#[test]
fn clearing_the_tpm_loses_the_slot_but_not_the_identity() {
    let emulator = Emulator::start();
    let (tpm, authority, _) = enrolled(&emulator);
    let identity = tpm.identity().unwrap();
    drop(tpm);
    // TPM2_Clear by the lockout hierarchy, which has no authorization value.
    emulator.authorized(0x126, &[0x4000_000a], &[]).unwrap();
    let tpm = emulator.open();
    assert_eq!(tpm.slot(authority.index).unwrap(), None);
    assert_eq!(tpm.identity().unwrap(), identity);
}

#[test]
fn no_room_is_an_error() {
    let emulator = Emulator::start();
    let mut number = 0x0180_1000;
    // As large as they get, then small: until not even those fit.
    for size in [2048, 512, 64, 8, 1] {
        while define(&emulator, number, size).is_ok() {
            number += 1;
        }
    }
    let (tpm, authority) = (emulator.open(), Authority::new());
    let error = tpm.define_slot(authority.index, &authority.auth_policy()).unwrap_err();
    assert!(matches!(error, TpmError::NvFull), "{error:?}");
    assert_eq!(tpm.slot(authority.index).unwrap(), None);
    tpm.undefine_slot(NvIndex::try_from(0x0180_1000).unwrap()).unwrap();
    tpm.define_slot(authority.index, &authority.auth_policy()).unwrap();
    drop(tpm);
    assert!(emulator.loaded().is_empty());
}

/// An index that the owner writes and everybody reads.
fn define(emulator: &Emulator, number: u32, size: u16) -> Result<Vec<u8>, u32> {
    let public =
        [&number.to_be_bytes()[..], &[0, 0x0b], &0x0204_0002_u32.to_be_bytes(), &[0, 0], &size.to_be_bytes()];
    emulator.authorized(NV_DEFINE, &[OWNER], &[&[0, 0, 0, 14][..], &public.concat()].concat())
}

#[test]
fn an_owner_with_a_password_is_named() {
    let emulator = Emulator::start();
    emulator.authorized(0x129, &[OWNER], &[0, 4, 1, 2, 3, 4]).unwrap();
    let (tpm, authority) = (emulator.open(), Authority::new());
    let error = tpm.define_slot(authority.index, &authority.auth_policy()).unwrap_err();
    assert!(matches!(error, TpmError::HierarchyClosed { hierarchy: "owner", .. }), "{error:?}");
}

/// Has two connections write versions that are both newer than what the slot holds, so that the older one's version is
/// asserted first and its write comes last. What the slot holds then, and how the older one's write ended.
fn overlapping(measured: bool) -> ([u8; 40], Result<(), TpmError>) {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    drop(tpm);
    let (five, six) = (authority.version(5, "five", &state), authority.version(6, "six", &state));
    let (tcti, mut meanwhile) = (emulator.tcti(), Some(six));
    let interposer = Interposer::start(&emulator, move |command, tpm| {
        if code_of(command) == NV_WRITE
            && let Some(six) = meanwhile.take()
        {
            let other = Tpm::open(&tcti, PATIENCE).unwrap();
            other.write_slot(&six).unwrap();
            if measured {
                other.extend(pcr(14), &[6; 32]).unwrap();
            }
        }
        tpm.give(command)
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    let result = tpm.write_slot(&five);
    drop(tpm);
    drop(interposer);
    let tpm = emulator.open();
    (held(&tpm, &authority).unwrap(), result)
}

#[test]
fn measuring_settles_what_the_slot_holds() {
    let (held, result) = overlapping(true);
    assert_eq!(held, record(6, "six"));
    assert!(matches!(result, Err(TpmError::PolicyRefused { step: SlotStep::Pcrs, .. })), "{result:?}");
}

#[test]
fn a_version_is_judged_when_it_is_asserted() {
    // The TPM's own rule, and the reason why a write counts only after something was measured: if this fails, TPMs have
    // become better than the documentation of `Tpm::write_slot` says.
    let (held, result) = overlapping(false);
    assert_eq!(held, record(5, "five"));
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn of_two_writers_one_wins() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    drop(tpm);
    let writes = ["one", "other"].map(|content| authority.version(5, content, &state));
    let admit = |write: &SlotWrite| {
        let tpm = emulator.open();
        tpm.write_slot(write)?;
        tpm.extend(pcr(14), &[1; 32])?;
        Ok(tpm.slot(authority.index)?.and_then(|slot| slot.bytes) == Some(write.bytes))
    };
    let results: [Result<bool, TpmError>; 2] = thread::scope(|scope| {
        let writers = writes.each_ref().map(|write| scope.spawn(|| admit(write)));
        writers.map(|writer| writer.join().unwrap())
    });
    let won: Vec<_> = results.iter().zip(&writes).filter(|(result, _)| matches!(result, Ok(true))).collect();
    assert_eq!(won.len(), 1, "{results:?}");
    assert_eq!(held(&emulator.open(), &authority), Some(won[0].1.bytes));
    for lost in results.iter().filter_map(|result| result.as_ref().err()) {
        let overtaken = matches!(lost, TpmError::SlotDiffers(_));
        let refused =
            matches!(lost, TpmError::PolicyRefused { step: SlotStep::Version | SlotStep::Pcrs, .. });
        assert!(overtaken || refused, "{lost:?}");
    }
}

#[test]
fn a_write_that_somebody_only_pretends_is_noticed() {
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    drop(tpm);
    let interposer = Interposer::start(&emulator, |command, tpm| {
        if code_of(command) == NV_WRITE {
            // Success, in a session that needs no proof.
            return vec![0x80, 2, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        }
        tpm.give(command)
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    let error = tpm.write_slot(&authority.version(5, "five", &state)).unwrap_err();
    assert!(
        matches!(error, TpmError::SlotDiffers(_) | TpmError::Malformed { .. } | TpmError::Protocol { .. }),
        "{error:?}"
    );
    drop(tpm);
    drop(interposer);
    assert_eq!(held(&emulator.open(), &authority), Some([0; 40]));
}

#[test]
fn what_a_slot_holds_cannot_be_read_along_or_changed() {
    const NV_READ: u32 = 0x14e;
    let emulator = Emulator::start();
    let (tpm, authority, state) = enrolled(&emulator);
    let write = authority.version(5, "five", &state);
    tpm.write_slot(&write).unwrap();
    drop(tpm);
    let (answers, read) = std::sync::mpsc::channel();
    let mut meddle = false;
    let interposer = Interposer::start(&emulator, move |command, tpm| {
        let mut response = tpm.give(command);
        if code_of(command) == NV_READ {
            answers.send(response.clone()).unwrap();
            if meddle {
                // A bit of the record: after the header, the parameters' size and the buffer's size.
                response[20] ^= 1;
            }
            meddle = true;
        }
        response
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    assert_eq!(held(&tpm, &authority), Some(write.bytes));
    let seen = read.recv().unwrap();
    assert!(!seen.windows(8).any(|window| write.bytes.starts_with(window)), "the version in plain text");
    assert!(!seen.windows(16).any(|window| window == &write.bytes[8..24]), "the digest in plain text");
    assert!(tpm.slot(authority.index).is_err(), "a changed answer was believed");
    drop(tpm);
}

#[test]
fn records_are_what_they_seem() {
    // The harness itself: version first, big-endian, then the digest.
    assert_eq!(record(258, "x")[..8], [0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(record(258, "x")[8..], sha256(&[b"x"]));
}
