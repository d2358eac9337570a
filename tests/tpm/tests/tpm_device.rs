//! The TPM part over the kernel's driver and resource manager, in a guest with a TPM.

// The emulator's tests have another root, where everything of it is used.
#[cfg(test)]
#[path = "../../../enforcer/tests/tpm/authority.rs"]
mod authority;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    thread,
    time::Instant,
};

use enforcer::{
    measured::pcr::{PcrIndex, PcrValue, extend},
    tpm::{DEADLINE, Rehearsal, SlotStep, SlotWrite, Tcti, Tpm, TpmError},
};

use self::authority::{Authority, record};

fn open() -> Tpm {
    Tpm::open(&Tcti::first_device(), DEADLINE).expect("this guest has a TPM (`cargo xtask vm --tpm`)")
}

fn pcrs(numbers: &[u8]) -> BTreeSet<PcrIndex> {
    numbers.iter().map(|number| PcrIndex::new(*number).expect("0 to 23")).collect()
}

/// What the kernel itself reads.
fn kernels(pcr: PcrIndex) -> PcrValue {
    let file = format!("/sys/class/tpm/tpm0/pcr-sha256/{pcr}");
    fs::read_to_string(&file).expect(&file).trim().to_lowercase().parse().expect("hexadecimal digits")
}

#[test]
fn registers_are_what_the_kernel_says() {
    let tpm = open();
    let all = PcrIndex::all().collect();
    let values = tpm.read_pcrs(&all).unwrap();
    assert_eq!(values.len(), 24);
    for (pcr, value) in values.iter() {
        assert_eq!(value, kernels(pcr), "PCR {pcr}");
    }
    let digest = PcrValue::digest_of(b"a policy");
    tpm.extend(PcrIndex::SYSTEM, &digest.0).unwrap();
    let expected = extend(values.get(PcrIndex::SYSTEM).unwrap(), digest);
    assert_eq!(kernels(PcrIndex::SYSTEM), expected);
}

#[test]
fn the_identity_is_proved_and_pinned() {
    let tpm = open();
    let identity = tpm.identity().unwrap();
    tpm.prove_identity().unwrap();
    drop(tpm);
    let started = Instant::now();
    let tpm = Tpm::open_pinned(&Tcti::first_device(), DEADLINE, &identity.pins()).unwrap();
    let (nonce, wanted) = ([7; 32], pcrs(&[0, 4, 7, 9, 15]));
    let read = tpm.read_pcrs(&wanted).unwrap();
    let quoted = tpm.quote(&nonce, &wanted).unwrap().verify(&identity.ak_name, &nonce, &wanted).unwrap();
    println!("pinned open, reading and quoting took {:?}", started.elapsed());
    assert_eq!(quoted.composite, read.composite());
    assert_eq!(tpm.info().unwrap().firmware_version, quoted.firmware_version);
    drop(tpm);
    let mut false_pins = identity.pins();
    false_pins.ek_sha256[0] ^= 1;
    let error = Tpm::open_pinned(&Tcti::first_device(), DEADLINE, &false_pins).unwrap_err();
    assert!(matches!(error, TpmError::OtherTpm { .. }), "{error:?}");
}

#[test]
fn a_slot_is_written_by_approval_only() {
    let (tpm, authority) = (open(), Authority::new());
    let index = authority.index;
    tpm.define_slot(index, &authority.auth_policy()).unwrap();
    tpm.write_slot(&authority.first()).unwrap();
    let state = tpm.read_pcrs(&pcrs(&[7, 16])).unwrap();
    let (five, six) = (authority.version(5, "five", &state), authority.version(6, "six", &state));
    let policy = authority.policy(&five.bytes, &state);
    let expected = Rehearsal { pcrs: Some(policy.pcrs), version: Some(policy.version), whole: policy.whole };
    assert_eq!(tpm.rehearse(&five).unwrap(), expected);
    let started = Instant::now();
    tpm.write_slot(&five).unwrap();
    println!("writing the slot took {:?}", started.elapsed());
    let slot = tpm.slot(index).unwrap().unwrap();
    assert_eq!((slot.name, slot.bytes), (authority.slot_name(true), Some(record(5, "five"))));
    let refused = |write| match tpm.write_slot(write).unwrap_err() {
        TpmError::PolicyRefused { step, .. } => step,
        error => panic!("{error:?}"),
    };
    assert_eq!(refused(&five), SlotStep::Version);
    tpm.extend(PcrIndex::new(16).unwrap(), &[1; 32]).unwrap();
    assert_eq!(refused(&six), SlotStep::Pcrs);
    tpm.undefine_slot(index).unwrap();
    assert_eq!(tpm.slot(index).unwrap(), None);
}

#[test]
fn of_two_writers_at_the_same_time_one_wins() {
    let (tpm, authority) = (open(), Authority::at(0x0180_0a13));
    tpm.define_slot(authority.index, &authority.auth_policy()).unwrap();
    tpm.write_slot(&authority.first()).unwrap();
    let state = tpm.read_pcrs(&pcrs(&[7])).unwrap();
    // Measuring settles who won, as admission does it.
    let admit = |write: &SlotWrite| {
        let tpm = open();
        tpm.write_slot(write)?;
        tpm.extend(PcrIndex::SYSTEM, &[1; 32])?;
        Ok(tpm.slot(authority.index)?.and_then(|slot| slot.bytes) == Some(write.bytes))
    };
    for version in 1..=5 {
        let writes = ["one", "other"].map(|content| authority.version(version, content, &state));
        let results: [Result<bool, TpmError>; 2] = thread::scope(|scope| {
            let writers = writes.each_ref().map(|write| scope.spawn(|| admit(write)));
            writers.map(|writer| writer.join().unwrap())
        });
        let won: Vec<_> =
            results.iter().zip(&writes).filter(|(result, _)| matches!(result, Ok(true))).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        assert_eq!(tpm.slot(authority.index).unwrap().unwrap().bytes, Some(won[0].1.bytes));
        for lost in results.iter().filter_map(|result| result.as_ref().err()) {
            let overtaken = matches!(lost, TpmError::SlotDiffers(_));
            let refused =
                matches!(lost, TpmError::PolicyRefused { step: SlotStep::Version | SlotStep::Pcrs, .. });
            assert!(overtaken || refused, "{lost:?}");
        }
    }
    tpm.undefine_slot(authority.index).unwrap();
}

#[test]
fn many_users_at_once_leave_nothing_behind() {
    // Far more keys and sessions than the TPM has room for: the kernel swaps those of living connections, and flushes
    // those of dead ones.
    for _ in 0..3 {
        let tpms: Vec<Tpm> = (0..4).map(|_| open()).collect();
        for tpm in &tpms {
            tpm.prove_identity().unwrap();
        }
        let wanted = pcrs(&[7]);
        for tpm in tpms {
            let ak_name = tpm.identity().unwrap().ak_name;
            tpm.quote(&[1; 32], &wanted).unwrap().verify(&ak_name, &[1; 32], &wanted).unwrap();
        }
    }
}

#[test]
fn a_device_that_is_in_use_or_missing_is_named() {
    // One user at a time, unlike the one with a resource manager.
    let exclusive = Tcti::Device("/dev/tpm0".into());
    let used = File::options().read(true).write(true).open("/dev/tpm0").unwrap();
    let error = Tpm::open(&exclusive, DEADLINE).unwrap_err();
    assert!(matches!(error, TpmError::Busy { attempts: 2.., .. }), "{error:?}");
    drop(used);
    assert_eq!(Tpm::open(&exclusive, DEADLINE).unwrap().read_pcrs(&pcrs(&[7])).unwrap().len(), 1);
    let error = Tpm::open(&Tcti::Device("/dev/tpmrm7".into()), DEADLINE).unwrap_err();
    assert!(matches!(error, TpmError::Absent { .. }), "{error:?}");
}
