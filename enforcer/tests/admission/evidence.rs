//! What a verifier elsewhere is told, and what does not convince it.

use std::collections::BTreeSet;

use enforcer::{
    admission::Measurements,
    bundle::signed::SignedFile,
    evidence::{Evidence, EvidenceError, Logs, Verdict, quoted_pcrs},
    intake::{bundle_in_force, connect},
    measured::{
        own::{OwnLog, Record},
        pcr::PcrValue,
    },
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
    let measurements = Measurements::open(&world.places(), &world.anchors()).unwrap().bytes().unwrap();
    let logs = Logs { firmware: None, measurements, systemd: std::fs::read(world.path("systemd.log")).ok() };
    let bundle = bundle_in_force(&world.places()).map(|bytes| SignedFile::parse(&bytes).unwrap());
    let json = Evidence::of(&quote, values, &logs, bundle).to_json().unwrap();
    Evidence::parse(json.as_bytes()).unwrap()
}

fn verified(world: &World) -> Result<Verdict, EvidenceError> {
    evidence(world, &NONCE).verify(&ak_name(world), &NONCE, &world.anchors(), &BTreeSet::new())
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
    let verdict = verified(&world).unwrap();
    assert_eq!((verdict.policy.as_str(), verdict.version, verdict.break_glass), ("web", 3, false));
    assert_eq!(verdict.state.as_deref(), Some("booted"));
    assert_eq!(verdict.files[0].0, "web.toml");
    assert!(verdict.same_anchors && verdict.denies_all.is_none());
    // After another version that one is.
    world.admit(4);
    let verdict = verified(&world).unwrap();
    assert_eq!(verdict.version, 4);
}

#[test]
fn a_stale_nonce_another_key_and_other_values_do_not_convince() {
    let world = World::new();
    world.admit(1);
    let given = evidence(&world, &NONCE);
    let error = given.verify(&ak_name(&world), &[4; 32], &world.anchors(), &BTreeSet::new()).unwrap_err();
    assert!(matches!(error, EvidenceError::Quote(QuoteError::Nonce)), "{error}");
    let error = given.verify(&[0; 34], &NONCE, &world.anchors(), &BTreeSet::new()).unwrap_err();
    assert!(matches!(error, EvidenceError::Quote(QuoteError::OtherKey { .. })), "{error}");
    let mut json: serde_json::Value = serde_json::from_str(&given.to_json().unwrap()).unwrap();
    json["pcrs"]["4"] = serde_json::json!("00".repeat(32));
    let forged = Evidence::parse(&serde_json::to_vec(&json).unwrap()).unwrap();
    let error = forged.verify(&ak_name(&world), &NONCE, &world.anchors(), &BTreeSet::new()).unwrap_err();
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
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::Measurements { .. }), "{error}");
    // Nor does one that starts after it.
    let value = world.traces().1.unwrap();
    std::fs::remove_file(&log).unwrap();
    let own = OwnLog::open(&log).unwrap();
    let text = first.report.unwrap().measured[2].clone();
    let record = Record::new(MEASURED, text).with_remark(enforcer::admission::START_VALUE, value.to_string());
    world.open().extend(MEASURED, &record.digest().0).unwrap();
    drop(own.append(&record).unwrap());
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::Unexplained { .. }), "{error}");
}

#[test]
fn nothing_measured_and_another_bundle_do_not_convince() {
    let world = World::new();
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::NothingMeasured), "{error}");
    world.admit(1);
    let kept = world.path("state/last-good/bundle.pcrsig.json");
    std::fs::write(&kept, world.sign(&world.statement(8)).to_json().unwrap()).unwrap();
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::OtherBundle { .. }), "{error}");
    let stranger = enforcer::bundle::key::SecretKey::generate().unwrap();
    std::fs::write(&kept, world.sign_with(&world.statement(1), &[&stranger]).to_json().unwrap()).unwrap();
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::Signatures(_)), "{error}");
}

#[test]
fn a_platform_that_moved_on_is_told() {
    let world = World::new();
    world.admit(1);
    world.open().extend(pcr(9), &[1; 32]).unwrap();
    let verdict = verified(&world).unwrap();
    assert_eq!(verdict.state, None);
}

/// What systemd does: says in its log what it is going to measure, and measures it.
fn systemd_measures(world: &World, number: u8, text: &str, digest: PcrValue) {
    use std::io::Write as _;
    let mut log =
        std::fs::OpenOptions::new().create(true).append(true).open(world.path("systemd.log")).unwrap();
    let record = serde_json::json!({
        "pcr": number,
        "digests": [{ "hashAlg": "sha256", "digest": digest }],
        "content_type": "systemd",
        "content": { "string": text, "bootId": "b0", "timestamp": 7, "eventType": "machine-id" },
    });
    writeln!(log, "\u{1e}{record}").unwrap();
    world.open().extend(pcr(number), &digest.0).unwrap();
}

fn systemd_says(world: &World, text: &str) {
    systemd_measures(world, MEASURED.number(), text, PcrValue::digest_of(text.as_bytes()));
}

#[test]
fn what_systemd_measures_before_between_and_after_is_told() {
    let world = World::new();
    systemd_says(&world, "machine-id:53726c3e8cd745bbae10e71af34bd7ac");
    world.admit(3);
    systemd_says(&world, "file-system:/var:1");
    world.admit(4);
    systemd_says(&world, "file-system:/srv:2");
    let verdict = verified(&world).unwrap();
    assert_eq!((verdict.version, verdict.state.as_deref()), (4, Some("booted")));
    let others = ["machine-id:53726c3e8cd745bbae10e71af34bd7ac", "file-system:/var:1", "file-system:/srv:2"];
    assert_eq!(verdict.others, others.map(|text| format!("PCR 15: {text}")));
    // Without systemd's log nobody can tell what it was.
    let log = std::fs::read(world.path("systemd.log")).unwrap();
    std::fs::remove_file(world.path("systemd.log")).unwrap();
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::Unexplained { .. }), "{error}");
    // Nor with one that was shortened, or says something else.
    let text = String::from_utf8(log).unwrap();
    let records: Vec<&str> = text.split_inclusive('\n').collect();
    for forged in
        [records[..2].concat(), records[1..].concat(), [records[1], records[0], records[2]].concat()]
    {
        std::fs::write(world.path("systemd.log"), forged).unwrap();
        let error = verified(&world).unwrap_err();
        let gap = matches!(error, EvidenceError::Unexplained { .. } | EvidenceError::Measurements { .. });
        assert!(gap, "{error}");
    }
    std::fs::write(world.path("systemd.log"), text.replace("53726c", "000000")).unwrap();
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::Unproved { .. }), "{error}");
}

#[test]
fn a_volume_key_has_to_be_known() {
    let world = World::new();
    let secret = PcrValue([7; 32]);
    systemd_measures(&world, 15, "cryptsetup:root:4c3e", secret);
    world.admit(1);
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::Unproved { digest, .. } if digest == secret), "{error}");
    assert!(error.to_string().contains(&format!("--known {secret}")), "{error}");
    let known = [secret].into();
    let verdict =
        evidence(&world, &NONCE).verify(&ak_name(&world), &NONCE, &world.anchors(), &known).unwrap();
    assert_eq!(verdict.others, ["PCR 15: cryptsetup:root:4c3e (a digest that is known)"]);
}

#[test]
fn a_policy_cannot_be_hidden_in_systemds_log() {
    let world = World::new();
    let first = world.admit(1).report.unwrap();
    let log = world.places().measurements();
    let before = std::fs::read(&log).unwrap();
    let second = world.admit(2).report.unwrap();
    // Root moves the record of version 2 to systemd's log, and adds one that says that version 1 is in force.
    let (old, new) = (first.measured[2].clone(), second.measured[0].clone());
    let value = world.traces().1.unwrap();
    let forge = |text: &str, digest: PcrValue| {
        let record = serde_json::json!({
            "pcr": 15, "digests": [{ "hashAlg": "sha256", "digest": digest }],
            "content_type": "systemd", "content": { "string": text },
        });
        std::fs::write(world.path("systemd.log"), format!("\u{1e}{record}\n")).unwrap();
    };
    std::fs::write(&log, &before).unwrap();
    let record =
        Record::new(MEASURED, old.clone()).with_remark(enforcer::admission::START_VALUE, value.to_string());
    world.open().extend(MEASURED, &record.digest().0).unwrap();
    drop(OwnLog::open(&log).unwrap().append(&record).unwrap());
    let kept = world.path("state/last-good/bundle.pcrsig.json");
    std::fs::write(&kept, world.sign(&world.statement(1)).to_json().unwrap()).unwrap();
    let digest = PcrValue::digest_of(new.as_bytes());
    forge(&new, digest);
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::Moved { .. }), "{error}");
    forge("cryptsetup:root:4c3e", digest);
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::Unproved { .. }), "{error}");
}

#[test]
fn an_older_version_after_a_newer_one_is_a_forgery() {
    let world = World::new();
    let old = world.admit(1).report.unwrap().measured[2].clone();
    let bundle = std::fs::read(world.path("state/last-good/bundle.pcrsig.json")).unwrap();
    world.admit(2);
    let record = Record::new(MEASURED, old);
    let log = OwnLog::open(world.places().measurements()).unwrap();
    drop(log.append(&record).unwrap());
    world.open().extend(MEASURED, &record.digest().0).unwrap();
    std::fs::write(world.path("state/last-good/bundle.pcrsig.json"), bundle).unwrap();
    let error = verified(&world).unwrap_err();
    assert!(matches!(error, EvidenceError::WentBack { earlier: 2, later: 1 }), "{error}");
}
