//! What the TPM's memory decides: versions, replaced and cleared slots, loaders at the same time.

use std::time::{Duration, SystemTime};

use enforcer::{
    admission::{Enrolled, Machine, Platform as _, admit},
    bundle::{
        anchors::DEFAULT_SLOT,
        approval::{
            POLICY_REF, SlotPlan, SlotRecord, UNSIGNED_LT, cp_hash_nv_write, policy_cp_hash, policy_nv,
            policy_pcr, sign,
        },
        key::SecretKey,
        signed::SignedSet,
        sources::{self, Sources},
        statement::Statement,
    },
    intake::connect,
    kernel::load::object_sha256,
    tpm::{NvIndex, SlotCondition, SlotWrite},
};

use super::{
    disturbed::Disturbed,
    world::{POLICY, World},
};

fn version(world: &World) -> u64 {
    SlotRecord::from_bytes(&world.traces().0.unwrap()).version
}

#[test]
fn an_older_version_is_refused() {
    let world = World::new();
    let old = world.sign(&world.statement(5));
    world.deliver(&old);
    world.take().unwrap();
    world.admit(6);
    assert_eq!(version(&world), 6);
    world.deliver(&old);
    assert_eq!(world.refused(), "rollback");
    assert!(world.complaint().contains("version 6 was admitted before, and 5 is older"));
    // Over a reboot as well.
    world.reboot();
    assert_eq!(world.refused(), "rollback");
}

#[test]
fn the_same_version_with_other_bytes_is_refused() {
    let world = World::new();
    world.admit(5);
    let until = SystemTime::now() + Duration::from_secs(3600);
    world.deliver(&world.sign(&Statement { not_after: Some(until), ..world.statement(5) }));
    assert_eq!(world.refused(), "rollback");
    assert!(world.complaint().contains("other contents"));
}

#[test]
fn a_replaced_slot_is_refused() {
    let world = World::new();
    world.admit(5);
    let index = NvIndex::try_from(DEFAULT_SLOT).unwrap();
    let theirs = SecretKey::generate().unwrap();
    let plan = SlotPlan::new(DEFAULT_SLOT, &theirs.public());
    world.open().undefine_slot(index).unwrap();
    world.open().define_slot(index, &plan.auth_policy()).unwrap();
    world.deliver(&world.sign(&world.statement(4)));
    assert_eq!(world.refused(), "slot-replaced");
}

#[test]
fn a_slot_that_was_made_anew_by_root_is_not_taken_for_the_old_one() {
    let world = World::new();
    world.admit(5);
    let index = NvIndex::try_from(DEFAULT_SLOT).unwrap();
    world.open().undefine_slot(index).unwrap();
    world.deliver(&world.sign(&world.statement(4)));
    assert_eq!(world.refused(), "slot-missing");
    // The very same index without its first record is not a slot yet.
    let plan = world.anchors().tpm.plan(false).unwrap();
    world.open().define_slot(index, &plan.auth_policy()).unwrap();
    assert_eq!(world.refused(), "slot-replaced");
}

#[test]
fn a_cleared_tpm_is_refused() {
    let world = World::new();
    world.admit(5);
    // TPM2_Clear by the lockout hierarchy, which has no password.
    world.tpm.authorized(0x126, &[0x4000_000a], &[]).unwrap();
    world.deliver(&world.sign(&world.statement(4)));
    // Clearing also sets its counters back, which shows at once; after the next boot the slot is missing.
    assert_eq!(world.take().unwrap_err().reason(), "tpm-reset");
    world.reboot();
    assert_eq!(world.refused(), "slot-missing");
}

#[test]
fn of_two_loaders_the_tpm_lets_one_win() {
    let world = World::new();
    let (anchors, places, object) = (world.anchors(), world.places(), object_sha256());
    let machine = Machine { anchors: &anchors, places: &places, object: &object };
    let set = |name: &str, statement: &Statement| {
        let directory = world.path(name);
        world.put(&directory, POLICY, world.sign(statement).to_json().unwrap().as_bytes());
        let Sources::Bundle(files) = sources::read(&[directory]).unwrap() else { panic!() };
        SignedSet::open(files, &anchors, &object, SystemTime::now()).unwrap()
    };
    let until = Some(SystemTime::now() + Duration::from_secs(3600));
    let ours = set("ours", &world.statement(9));
    let theirs = set("theirs", &Statement { not_after: until, ..world.statement(9) });
    let tpm = connect(&anchors).unwrap();
    let race = |ours: &SignedSet, theirs: &SignedSet| {
        let plan = anchors.tpm.plan(false).unwrap();
        let rival = |tpm: &Enrolled| {
            let approval = theirs.approval(0, &plan, &world.slot_key.public()).unwrap();
            tpm.write_slot(&plan, theirs.record(), &world.booted(), &approval, &world.slot_key.public())
                .unwrap();
        };
        // Somebody else's loader is faster.
        let raced = Disturbed::before_writing(&tpm, rival);
        admit(ours.clone(), &machine, || Ok(raced), |_| Ok(())).map(drop).map_err(|refusal| refusal.reason())
    };
    // Other contents: the TPM refuses the second write.
    assert_eq!(race(&ours, &theirs), Err("rollback"));
    assert_eq!(tpm.slot(DEFAULT_SLOT).unwrap().unwrap().record, Some(theirs.record()));
    // The same bundle: that somebody else was faster does not matter.
    let next = set("next", &world.statement(10));
    assert_eq!(race(&next, &next), Ok(()));
}

#[test]
fn the_copy_that_was_kept_is_admitted_again_and_an_older_copy_is_not() {
    let world = World::new();
    world.admit(1);
    let intake = world.intake();
    assert!(intake.take_last_good(|_| Ok(())).unwrap().report.unwrap().already_active);
    let old = std::fs::read(world.path("state/last-good/bundle.pcrsig.json")).unwrap();
    world.admit(2);
    std::fs::write(world.path("state/last-good/bundle.pcrsig.json"), old).unwrap();
    assert_eq!(intake.take_last_good(|_| Ok(())).unwrap_err().reason(), "rollback");
}

#[test]
fn what_we_have_signed_is_what_the_tpm_computes() {
    let world = World::new();
    let (plan, key) = (world.anchors().tpm.plan(false).unwrap(), world.slot_key.public());
    let record = SlotRecord::of(7, b"statement");
    let approved = plan.approved(record, &world.booted());
    let write = SlotWrite {
        index: NvIndex::try_from(plan.index).unwrap(),
        bytes: record.to_bytes(),
        condition: SlotCondition::Newer { pcrs: world.booted() },
        cp_hash: cp_hash_nv_write(&plan.name(true), &record),
        approved,
        policy_ref: POLICY_REF.to_vec(),
        authority: key.coordinates().into(),
        signature: sign(&world.slot_key, &approved),
    };
    let computed = world.open().rehearse(&write).unwrap();
    let pcrs = policy_pcr(&[0; 32], &world.booted());
    let version = policy_nv(&pcrs, &7_u64.to_be_bytes(), UNSIGNED_LT, &plan.name(true));
    assert_eq!((computed.pcrs, computed.version, computed.whole), (Some(pcrs), Some(version), approved));
    assert_eq!(policy_cp_hash(&version, &write.cp_hash), approved);
    let slot = world.open().slot(write.index).unwrap().unwrap();
    assert_eq!(slot.name, plan.name(true), "the Name, too");
}
