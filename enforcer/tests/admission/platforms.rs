//! What the platform's state decides.

use std::cell::Cell;

use enforcer::{
    admission::{
        Machine, Measured, Platform as _, Refusal, admit, recheck,
        records::{self, Standing},
    },
    bundle::{
        signed::SignedSet,
        sources::{self, Sources},
        statement::{Binding, Statement},
    },
    intake::connect,
    kernel::load::object_sha256,
    measured::pcr::PcrValue,
};

use super::{
    disturbed::Disturbed,
    world::{MEASURED, World},
};
use crate::tpm::emulator::{Emulator, pcr, pcrs};

#[test]
fn another_boot_is_refused_and_the_pcr_is_named() {
    let world = World::new();
    let mut other = world.booted();
    other.insert(pcr(9), PcrValue([9; 32]));
    let elsewhere = Binding { label: "elsewhere".into(), pcrs: other.clone() };
    world.deliver(&world.sign(&Statement { bindings: vec![elsewhere.clone()], ..world.statement(1) }));
    assert_eq!(world.refused(), "platform-state");
    let complaint = world.complaint();
    for part in [
        "state elsewhere: PCR 9: kernel command line and initrd",
        &format!("expected {}", PcrValue([9; 32])),
        &format!("found    {}", world.booted().get(pcr(9)).unwrap()),
        "enforcer pcr capture",
    ] {
        assert!(complaint.contains(part), "{part} is not in {complaint}");
    }
    assert!(!complaint.contains("PCR 4"), "{complaint}");
    // One of several states suffices.
    let here = Binding { label: "here".into(), pcrs: world.booted() };
    world.deliver(&world.sign(&Statement { bindings: vec![elsewhere, here], ..world.statement(1) }));
    let report = world.take().unwrap().report.unwrap();
    assert_eq!(report.trust.grounds().unwrap().binding.as_deref(), Some("here"));
}

#[test]
fn an_update_goes_through_both_states() {
    let world = World::new();
    world.admit(1);
    let new = {
        let mut new = world.booted();
        new.insert(pcr(4), PcrValue([4; 32]));
        Binding { label: "new".into(), pcrs: new }
    };
    let old = Binding { label: "old".into(), pcrs: world.booted() };
    world.deliver(&world.sign(&Statement { bindings: vec![old, new.clone()], ..world.statement(2) }));
    assert_eq!(
        world.take().unwrap().report.unwrap().trust.grounds().unwrap().binding.as_deref(),
        Some("old")
    );
    // The third version is for the new state only, and the machine is still in the old one.
    world.deliver(&world.sign(&Statement { bindings: vec![new], ..world.statement(3) }));
    assert_eq!(world.refused(), "platform-state");
}

#[test]
fn many_pcrs_are_one_state() {
    let world = World::new();
    let indices = [0, 2, 4, 7, 8, 9, 11, 12, 13, 14];
    let pcrs = world.open().read_pcrs(&pcrs(&indices)).unwrap();
    assert_eq!(pcrs.len(), 10, "more than a TPM reads at once");
    let binding = Binding { label: "all".into(), pcrs };
    world.deliver(&world.sign(&Statement { bindings: vec![binding], ..world.statement(1) }));
    world.take().unwrap();
}

#[test]
fn another_tpm_is_refused() {
    let world = World::new();
    world.deliver(&world.sign(&world.statement(1)));
    let pins = world.pins();
    let fake = Emulator::start();
    world.redirect(&fake.tcti());
    assert_eq!(world.take().unwrap_err().reason(), "other-tpm");
    // The endorsement key may be right, the attestation key has to be, too.
    let other_ak = world.pins().lines().next().unwrap().to_owned()
        + &format!("\nak_name = \"000b{}\"\n", "11".repeat(32));
    world.write_anchors("", &other_ak);
    assert_eq!(world.refused(), "other-ak");
    world.write_anchors("", "");
    assert_eq!(world.refused(), "not-enrolled");
    world.write_anchors("", &pins);
    world.take().unwrap();
}

#[test]
fn a_tpm_that_is_gone_refuses() {
    let mut world = World::new();
    world.deliver(&world.sign(&world.statement(1)));
    world.tpm.kill();
    assert_eq!(world.take().unwrap_err().reason(), "tpm-absent");
}

#[test]
fn a_reset_under_the_running_system_is_refused_even_if_all_pcrs_are_replayed() {
    let world = World::new();
    let first = world.admit(1).report.unwrap();
    let before = world.open().read_pcrs(&pcrs(&[4, 7, 9, 15])).unwrap();
    world.tpm.reset();
    world.boot();
    for text in &first.measured {
        world.open().extend(MEASURED, &PcrValue::digest_of(text.as_bytes()).0).unwrap();
    }
    assert_eq!(world.open().read_pcrs(&pcrs(&[4, 7, 9, 15])).unwrap(), before, "the replay is perfect");
    assert_eq!(world.refused(), "tpm-reset");
    // A real reboot forgets what this boot was.
    world.reboot();
    assert!(world.take().unwrap().report.unwrap().already_active);
}

#[test]
fn pcrs_that_move_between_reading_and_quoting_are_read_again_and_in_the_end_refused() {
    let world = World::new();
    world.deliver(&world.sign(&world.statement(1)));
    let (anchors, places) = (world.anchors(), world.places());
    let Sources::Bundle(files) = sources::read(&[world.path("policies")]).unwrap() else { panic!() };
    let object = object_sha256();
    let set = SignedSet::open(files, &anchors, &object, std::time::SystemTime::now()).unwrap();
    let machine = Machine { anchors: &anchors, places: &places, object: &object };
    let tpm = connect(&anchors).unwrap();
    let with = |moves| {
        let left = Cell::new(moves);
        let moving = Disturbed::after_reading(&tpm, move |tpm| {
            if left.get() > 0 {
                left.set(left.get() - 1);
                tpm.extend(MEASURED, &[1; 32]).unwrap();
            }
        });
        admit(set.clone(), &machine, || Ok(moving), |_| Ok(())).map(|(_, report)| report)
    };
    let refusal = with(u32::MAX).unwrap_err();
    assert!(matches!(refusal, Refusal::Moving { attempts: 5 }), "{refusal}");
    assert!(!with(4).unwrap().already_active);
}

#[test]
fn what_is_admitted_is_measured_once_and_explained_by_the_log() {
    let world = World::new();
    let measured = world.admit(1).report.unwrap().measured;
    let anchors = Measured::Anchors(world.anchors().digest).to_string();
    let object = Measured::Object(object_sha256()).to_string();
    assert_eq!(measured[..2], [anchors, object]);
    assert!(measured[2].starts_with("policy:web:1:"), "{measured:?}");
    let (_, value) = world.traces();
    let replayed = measured.iter().fold(MEASURED.start(), |value, text| {
        enforcer::measured::pcr::extend(value, PcrValue::digest_of(text.as_bytes()))
    });
    assert_eq!(value, Some(replayed));
    // Again: nothing new. Another version: that alone.
    assert!(world.take().unwrap().report.unwrap().measured.is_empty());
    assert_eq!(world.traces().1, value);
    let again = world.admit(2).report.unwrap().measured;
    assert_eq!(again.len(), 1);
    assert!(again[0].starts_with("policy:web:2:"), "{again:?}");
}

#[test]
fn a_crash_between_log_and_pcr_is_made_up_for() {
    let world = World::new();
    world.admit(1);
    // What a loader logged that died before it extended.
    let log = enforcer::measured::own::OwnLog::open(world.places().measurements()).unwrap();
    drop(log.append(&enforcer::measured::own::Record::new(MEASURED, "policy:web:2:dead")).unwrap());
    let measured = world.take().unwrap().report.unwrap().measured;
    assert!(measured[0].starts_with("policy:web:1:"), "what is in force is the last record: {measured:?}");
    let (_, value) = world.traces();
    let replay = enforcer::admission::replayed(&log.records().unwrap(), MEASURED);
    assert_eq!((replay.values().len(), replay.matches(value.unwrap())), (6, Some(5)));
}

#[test]
fn later_checks_notice_a_changed_pcr_and_a_reset() {
    let world = World::new();
    let report = world.admit(1).report.unwrap();
    let places = world.places();
    records::note_standing(&places, Some(&report)).unwrap();
    let standing = records::standing(&places).unwrap().unwrap();
    assert_eq!(standing, Standing::of(&report));
    let check = || recheck(&connect(&world.anchors()).unwrap(), &standing, &places);
    check().unwrap();
    // What policies are not bound to may change.
    world.open().extend(pcr(12), &[1; 32]).unwrap();
    check().unwrap();
    world.open().extend(pcr(9), &[1; 32]).unwrap();
    let refusal = check().unwrap_err();
    assert!(refusal.to_string().contains("PCR 9"), "{refusal}");
    world.tpm.reset();
    world.boot();
    assert_eq!(check().unwrap_err().reason(), "tpm-reset");
}
