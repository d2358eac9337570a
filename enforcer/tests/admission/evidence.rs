//! What a verifier elsewhere is told, and what does not convince it.

use enforcer::{
    admission::Measurements,
    bundle::signed::SignedFile,
    evidence::{Evidence, EvidenceError, quoted_pcrs},
    intake::{bundle_in_force, connect},
    measured::own::{OwnLog, Record},
    tpm::{Name, QuoteError},
};

use super::world::{MEASURED, World};
use crate::tpm::emulator::pcr;

const NONCE: [u8; 32] = [3; 32];

/// What `enforcer attest` does.
fn evidence(world: &World, nonce: &[u8; 32]) -> Evidence {
    let tpm = connect(&world.anchors()).unwrap();
    let pcrs = quoted_pcrs();
    let values = enforcer::admission::Platform::read_pcrs(&tpm, &pcrs).unwrap();
    let quote = tpm.tpm().quote(nonce, &pcrs).unwrap();
    let log = Measurements::open(&world.places(), &world.anchors()).unwrap().bytes().unwrap();
    let bundle = bundle_in_force(&world.places()).map(|bytes| SignedFile::parse(&bytes).unwrap());
    let json = Evidence::of(&quote, values, None, &log, bundle).to_json().unwrap();
    Evidence::parse(json.as_bytes()).unwrap()
}

fn ak_name(world: &World) -> Name {
    let mut name = [0; 34];
    hex::decode_to_slice(world.ak_name(), &mut name).unwrap();
    name
}

#[test]
fn the_policy_in_force_is_named() {
    let world = World::new();
    world.admit(3);
    let verdict = evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap();
    assert_eq!((verdict.policy.as_str(), verdict.version, verdict.break_glass), ("web", 3, false));
    assert_eq!(verdict.state.as_deref(), Some("booted"));
    assert_eq!(verdict.files[0].0, "web.toml");
    assert!(verdict.same_anchors && verdict.denies_all.is_none());
    // After another version that one is.
    world.admit(4);
    let verdict = evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap();
    assert_eq!(verdict.version, 4);
}

#[test]
fn a_stale_nonce_another_key_and_other_values_do_not_convince() {
    let world = World::new();
    world.admit(1);
    let given = evidence(&world, &NONCE);
    let error = given.verify(&ak_name(&world), &[4; 32], &world.anchors()).unwrap_err();
    assert!(matches!(error, EvidenceError::Quote(QuoteError::Nonce)), "{error}");
    let error = given.verify(&[0; 34], &NONCE, &world.anchors()).unwrap_err();
    assert!(matches!(error, EvidenceError::Quote(QuoteError::OtherKey { .. })), "{error}");
    let mut json: serde_json::Value = serde_json::from_str(&given.to_json().unwrap()).unwrap();
    json["pcrs"]["4"] = serde_json::json!("00".repeat(32));
    let forged = Evidence::parse(&serde_json::to_vec(&json).unwrap()).unwrap();
    let error = forged.verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap_err();
    assert!(matches!(error, EvidenceError::Values), "{error}");
}

#[test]
fn a_policy_cannot_be_hidden() {
    let world = World::new();
    let first = world.admit(1);
    let log = world.places().measurements();
    let innocent = std::fs::read(&log).unwrap();
    world.admit(2);
    // The log without the second record does not lead to the value.
    std::fs::write(&log, &innocent).unwrap();
    let error = evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap_err();
    assert!(matches!(error, EvidenceError::Measurements { .. }), "{error}");
    // Nor does one that starts after it.
    let value = world.traces().1.unwrap();
    std::fs::remove_file(&log).unwrap();
    let own = OwnLog::open(&log).unwrap();
    let text = first.report.unwrap().measured[2].clone();
    let record = Record::new(MEASURED, text).with_remark(enforcer::admission::START_VALUE, value.to_string());
    world.open().extend(MEASURED, &record.digest().0).unwrap();
    drop(own.append(&record).unwrap());
    let error = evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap_err();
    assert!(matches!(error, EvidenceError::Unexplained { .. }), "{error}");
}

#[test]
fn nothing_measured_and_another_bundle_do_not_convince() {
    let world = World::new();
    let error = evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap_err();
    assert!(matches!(error, EvidenceError::NothingMeasured), "{error}");
    world.admit(1);
    let kept = world.path("state/last-good/bundle.pcrsig.json");
    std::fs::write(&kept, world.sign(&world.statement(8)).to_json().unwrap()).unwrap();
    let error = evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap_err();
    assert!(matches!(error, EvidenceError::OtherBundle { .. }), "{error}");
    let stranger = enforcer::bundle::key::SecretKey::generate().unwrap();
    std::fs::write(&kept, world.sign_with(&world.statement(1), &[&stranger]).to_json().unwrap()).unwrap();
    let error = evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap_err();
    assert!(matches!(error, EvidenceError::Signatures(_)), "{error}");
}

#[test]
fn a_platform_that_moved_on_is_told() {
    let world = World::new();
    world.admit(1);
    world.open().extend(pcr(9), &[1; 32]).unwrap();
    let verdict = evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors()).unwrap();
    assert_eq!(verdict.state, None);
}
