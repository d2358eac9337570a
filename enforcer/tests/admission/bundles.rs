//! What the bundle itself decides: signatures, files, age, roles.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use enforcer::bundle::{
    key::SecretKey,
    signed::SignedFile,
    statement::{NoTpm, Seal, Statement},
    verify::Trust,
};
use serde_json::{Value, json};

use super::world::{POLICY, World};

fn edited(signed: &SignedFile, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::to_value(signed).unwrap();
    edit(&mut value);
    serde_json::to_vec(&value).unwrap()
}

/// Flips a bit in the middle of what a base64 text stands for.
fn flipped(text: &Value) -> Value {
    let mut bytes = BASE64.decode(text.as_str().unwrap()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    json!(BASE64.encode(bytes))
}

#[test]
fn a_signed_bundle_is_admitted_and_says_on_what_grounds() {
    let world = World::new();
    let taken = world.admit(7);
    let report = taken.report.unwrap();
    assert_eq!(report.trust.to_string(), "signed web version 7, state booted");
    assert_eq!(report.bound, world.booted());
    assert!(!report.already_active);
    assert_eq!(taken.policies[0].bytes(), POLICY.as_bytes());
    assert!(matches!(taken.policies[0].trust(), Trust::Signed(grounds) if grounds.version == 7));
}

#[test]
fn a_flipped_byte_in_a_policy_is_refused() {
    let world = World::new();
    let signed = world.sign(&world.statement(1));
    world.deliver_with(&POLICY.replace("nginx\"", "nginy\""), &signed);
    assert_eq!(world.refused(), "subject");
    assert!(world.complaint().contains("web.toml is not what was signed"));
    world.deliver(&signed);
    world.take().unwrap();
}

#[test]
fn a_flipped_byte_in_the_payload_is_refused() {
    let world = World::new();
    let signed = world.sign(&world.statement(1));
    let bundle = edited(&signed, |file| {
        file["dsseEnvelope"]["payload"] = flipped(&file["dsseEnvelope"]["payload"]);
    });
    world.put(&world.path("policies"), POLICY, &bundle);
    assert_eq!(world.refused(), "signatures");
}

#[test]
fn a_flipped_byte_in_a_signature_is_refused() {
    let world = World::new();
    let signed = world.sign(&world.statement(1));
    let bundle = edited(&signed, |file| {
        let signature = &mut file["dsseEnvelope"]["signatures"][0]["sig"];
        *signature = flipped(signature);
    });
    world.put(&world.path("policies"), POLICY, &bundle);
    assert_eq!(world.refused(), "signatures");
}

#[test]
fn a_flipped_byte_in_an_approval_is_refused() {
    let world = World::new();
    let signed = world.sign(&world.statement(1));
    let bundle = edited(&signed, |file| {
        let approval = &mut file["tpmApprovals"][0]["sig"];
        *approval = flipped(approval);
    });
    world.put(&world.path("policies"), POLICY, &bundle);
    assert_eq!(world.refused(), "not-approved");
    let bundle = edited(&signed, |file| file["tpmApprovals"] = json!([]));
    world.put(&world.path("policies"), POLICY, &bundle);
    assert_eq!(world.refused(), "not-approved");
}

#[test]
fn another_payload_type_is_refused() {
    let world = World::new();
    let signed = world.sign(&world.statement(1));
    let bundle = edited(&signed, |file| file["dsseEnvelope"]["payloadType"] = json!("application/json"));
    world.put(&world.path("policies"), POLICY, &bundle);
    assert_eq!(world.refused(), "payload-type");
}

#[test]
fn an_unknown_key_is_refused() {
    let world = World::new();
    let stranger = SecretKey::generate().unwrap();
    world.deliver(&world.sign_with(&world.statement(1), &[&stranger]));
    assert_eq!(world.refused(), "signatures");
    assert!(world.complaint().contains(stranger.public().id().as_str()));
}

#[test]
fn fewer_signatures_than_the_threshold_are_refused() {
    let world = World::new();
    world.write_anchors("threshold = 2", &world.pins());
    let statement = world.statement(1);
    world.deliver(&world.sign_with(&statement, &[&world.ops]));
    assert_eq!(world.refused(), "signatures");
    assert!(world.complaint().contains("1 of 2 signatures"));
    // A key of another role does not count.
    world.deliver(&world.sign_with(&statement, &[&world.ops, &world.on_call]));
    assert_eq!(world.refused(), "signatures");
    world.deliver(&world.sign_with(&statement, &[&world.ops, &world.security]));
    world.take().unwrap();
}

#[test]
fn an_expired_bundle_is_refused() {
    let world = World::new();
    let until = |time| Statement { not_after: Some(time), ..world.statement(1) };
    world.deliver(&world.sign(&until(SystemTime::now() - Duration::from_secs(10))));
    assert_eq!(world.refused(), "expired");
    world.deliver(&world.sign(&until(SystemTime::now() + Duration::from_secs(3600))));
    world.take().unwrap();
}

#[test]
fn a_bundle_for_others_is_refused() {
    let world = World::new();
    world.deliver(&world.sign(&Statement { policy: "db".into(), ..world.statement(1) }));
    assert_eq!(world.refused(), "other-policy");
    let other = format!("000b{}", "5a".repeat(32));
    world.deliver(&world.sign(&Statement { ak_name: Some(other), ..world.statement(1) }));
    assert_eq!(world.refused(), "other-machine");
    world.deliver(&world.sign(&Statement { objects: [[7; 32]].into(), ..world.statement(1) }));
    assert_eq!(world.refused(), "object");
    world.deliver(&world.sign(&Statement { ak_name: Some(world.ak_name()), ..world.statement(1) }));
    world.take().unwrap();
}

#[test]
fn files_that_are_missing_or_were_not_signed_are_refused() {
    let world = World::new();
    world.deliver(&world.sign(&world.statement(1)));
    let extra = world.path("policies/extra.toml");
    fs::write(&extra, POLICY.replace("web", "extra")).unwrap();
    assert_eq!(world.refused(), "unsigned-file");
    fs::remove_file(extra).unwrap();
    fs::rename(world.path("policies/web.toml"), world.path("policies/web.txt")).unwrap();
    assert_eq!(world.refused(), "subject-missing");
}

#[test]
fn where_bundles_are_expected_nothing_else_is_taken() {
    let world = World::new();
    assert_eq!(world.refused(), "no-bundle");
    fs::write(world.path("policies/web.toml"), POLICY).unwrap();
    assert_eq!(world.refused(), "unsigned");
    // The command line alone cannot consent.
    let mut intake = world.intake();
    intake.insecure_unsigned = true;
    assert_eq!(intake.take(|_| Ok(())).unwrap_err().reason(), "unsigned");
    world.write_anchors("unsigned = \"allow\"", &world.pins());
    let taken = intake.take(|_| Ok(())).unwrap();
    assert_eq!(taken.policies[0].trust(), &Trust::Unsigned);
    assert_eq!(world.refused(), "unsigned", "the anchors alone cannot consent");
}

#[test]
fn mistakes_in_a_signed_policy_are_told_like_any() {
    let world = World::new();
    let broken = POLICY.replace("[exec]", "[exek]");
    world.deliver_with(&broken, &world.sign(&world.statement_about(&broken, 1)));
    assert_eq!(world.refused(), "mistakes");
    assert!(world.complaint().contains("exek"));
}

#[test]
fn what_does_not_fit_is_refused_before_the_tpm_notes_it() {
    let world = World::new();
    world.deliver(&world.sign(&world.statement(1)));
    let before = world.traces();
    let refusal = world.intake().take(|_| Err("too large".into())).unwrap_err();
    assert_eq!((refusal.reason(), world.traces()), ("does-not-fit", before));
    world.take().unwrap();
}

#[test]
fn without_a_tpm_both_sides_have_to_consent() {
    let world = World::new();
    let no_tpm = Statement { no_tpm: NoTpm::Allow, ..world.statement(3) };
    world.write_anchors("", "mode = \"off\"");
    world.deliver(&world.sign(&world.statement(3)));
    assert_eq!(world.refused(), "needs-tpm");
    world.deliver(&world.sign(&no_tpm));
    let report = world.take().unwrap().report.unwrap();
    assert_eq!(report.trust.to_string(), "signed-without-tpm web version 3");
    assert!(report.measured.is_empty());
    // Rolled back, and equal with other contents.
    for version in [2, 3] {
        let other = Statement {
            not_after: Some(SystemTime::now() + Duration::from_secs(99)),
            version,
            ..no_tpm.clone()
        };
        world.deliver(&world.sign(&other));
        assert_eq!(world.refused(), "rollback", "version {version}");
    }
    // A statement for TPM-less machines does not make a machine one.
    world.write_anchors("", &world.pins());
    world.deliver(&world.sign(&Statement { bindings: Vec::new(), ..no_tpm }));
    assert_eq!(world.refused(), "unbound");
}

#[test]
fn no_byte_of_a_bundle_can_be_changed_for_another_policy() {
    let world = World::new();
    let bundle = world.sign(&world.statement(1)).to_json().unwrap().into_bytes();
    let taken = |bundle: &[u8]| {
        world.put(&world.path("policies"), POLICY, bundle);
        world.intake().take(|_| Err("stop before the TPM notes it".into())).unwrap_err().reason()
    };
    assert_eq!(taken(&bundle), "does-not-fit");
    // Every 7th byte in three ways: all regions of the file are hit.
    for at in (0..bundle.len()).step_by(7) {
        for flip in [1, 2, 0x20] {
            let mut other = bundle.clone();
            other[at] ^= flip;
            let reason = taken(&other);
            // A change that means nothing (a hint, white space) leaves everything signed as it was.
            let refused = ["malformed", "payload-type", "signatures", "not-approved"].contains(&reason);
            assert!(refused || reason == "does-not-fit", "byte {at}: {reason}");
            if !refused {
                let signed = |bytes: &[u8]| {
                    let file = SignedFile::parse(bytes).unwrap();
                    (file.dsse_envelope.unverified_payload().unwrap(), file.dsse_envelope.payload_type)
                };
                assert_eq!(signed(&other), signed(&bundle), "byte {at}");
            }
        }
    }
}

#[test]
fn what_a_bundle_says_about_the_seal_is_signed_with_it() {
    let world = World::new();
    for (version, seal) in [(1, Some(Seal::On)), (2, None), (3, Some(Seal::Off))] {
        world.deliver(&world.sign(&Statement { seal, ..world.statement(version) }));
        let report = world.take().unwrap().report.unwrap();
        assert_eq!((report.record.version, report.seal), (version, seal));
        assert_eq!(enforcer::admission::Standing::of(&report).seal, seal);
    }
    // Another word in the payload is another payload.
    let signed = world.sign(&Statement { seal: Some(Seal::On), ..world.statement(4) });
    let payload = |file: &Value| {
        String::from_utf8(BASE64.decode(file["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap()).unwrap()
    };
    let said = payload(&serde_json::to_value(&signed).unwrap());
    assert!(said.contains(r#""seal":"on""#), "{said}");
    let bundle = edited(&signed, |file| {
        let other = payload(file).replace(r#""seal":"on""#, r#""seal":"off""#);
        file["dsseEnvelope"]["payload"] = json!(BASE64.encode(other));
    });
    world.put(&world.path("policies"), POLICY, &bundle);
    assert_eq!(world.refused(), "signatures");
}

#[test]
fn an_older_bundle_does_not_unseal() {
    let world = World::new();
    world.deliver(&world.sign(&Statement { seal: Some(Seal::On), ..world.statement(5) }));
    world.take().unwrap();
    for version in [4, 5] {
        world.deliver(&world.sign(&Statement { seal: Some(Seal::Off), ..world.statement(version) }));
        assert_eq!(world.refused(), "rollback");
    }
}

#[test]
fn the_seal_is_on_or_off_and_no_emergency_seals() {
    let world = World::new();
    let statement = world.statement(1);
    let text =
        String::from_utf8(Statement { seal: Some(Seal::Off), ..statement }.to_payload().unwrap()).unwrap();
    assert_eq!(Statement::parse(text.as_bytes()).unwrap().seal, Some(Seal::Off));
    for other in ["\"maybe\"", "true", "\"On\"", "null"] {
        let other = text.replace(r#""seal":"off""#, &format!(r#""seal":{other}"#));
        let parsed = Statement::parse(other.as_bytes());
        assert!(parsed.is_err() || parsed.is_ok_and(|it| it.seal.is_none()), "{other}");
    }
    let emergency = world.break_glass(1, Duration::from_secs(60));
    for (seal, holds) in [(None, true), (Some(Seal::Off), true), (Some(Seal::On), false)] {
        assert_eq!(Statement { seal, ..emergency.clone() }.to_payload().is_ok(), holds, "{seal:?}");
    }
}
