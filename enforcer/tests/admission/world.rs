//! A machine with an enrolled TPM, and the keys of those who sign for it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use enforcer::{
    admission::{Places, platform::first_write},
    bundle::{
        anchors::{Anchors, DEFAULT_BREAK_GLASS_SLOT, DEFAULT_SLOT},
        approval::{self, SlotPlan},
        key::SecretKey,
        signed::SignedFile,
        statement::{Binding, NoTpm, Statement},
    },
    intake::{Intake, IntakeError, Taken},
    kernel::load::object_sha256,
    measured::pcr::{PcrIndex, PcrValue, PcrValues, extend},
    tpm::{NvIndex, Tcti, Tpm},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::tpm::emulator::{Emulator, pcr, pcrs};

/// Where the machine measures what it admits.
pub(crate) const MEASURED: PcrIndex = PcrIndex::SYSTEM;

/// A policy's text.
pub(crate) const POLICY: &str =
    "policy = \"web\"\n[workload]\nunit = \"nginx.service\"\n[exec]\nallow = [\"/usr/sbin/nginx\"]\n";

pub(crate) struct World {
    pub(crate) tpm: Emulator,
    pub(crate) ops: SecretKey,
    pub(crate) security: SecretKey,
    pub(crate) on_call: SecretKey,
    pub(crate) slot_key: SecretKey,
    directory: TempDir,
}

impl World {
    /// A machine whose TPM is enrolled, and that has booted.
    pub(crate) fn new() -> Self {
        let world = Self::unenrolled();
        world.enroll();
        world.boot();
        world
    }

    /// The same before enrolment.
    pub(crate) fn unenrolled() -> Self {
        let key = || SecretKey::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("policies")).unwrap();
        let world = Self {
            tpm: Emulator::start(),
            ops: key(),
            security: key(),
            on_call: key(),
            slot_key: key(),
            directory,
        };
        world.write_anchors("", "");
        world
    }

    /// What firmware does: measures what it starts.
    pub(crate) fn boot(&self) {
        let tpm = self.tpm.open();
        for number in [4, 7, 9] {
            tpm.extend(pcr(number), &PcrValue::digest_of(&[number]).0).unwrap();
        }
    }

    /// What the boot PCRs hold after [`World::boot`].
    pub(crate) fn booted(&self) -> PcrValues {
        let value = |number: u8| {
            let index = pcr(number);
            (index, extend(index.start(), PcrValue::digest_of(&[number])))
        };
        [4, 7, 9].into_iter().map(value).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the anchors, with more lines at their top and in their TPM part.
    pub(crate) fn write_anchors(&self, top: &str, tpm: &str) {
        let pem = |key: &SecretKey| key.public().to_pem().unwrap();
        let key = |name: &str, role: &str, key: &SecretKey| {
            format!("[keys.{name}]\nrole = \"{role}\"\npublic = \"\"\"\n{}\"\"\"\n", pem(key))
        };
        let first = |index| {
            let approved = SlotPlan::new(index, &self.slot_key.public()).approved_first();
            BASE64.encode(approval::sign(&self.slot_key, &approved).to_der())
        };
        let text = format!(
            "policy = \"web\"\n{top}\n{}{}{}[tpm]\ntcti = \"{}\"\nslot_key = \"\"\"\n{}\"\"\"\ngenesis = [\"{}\", \"{}\"]\n{tpm}\n",
            key("ops", "policy", &self.ops),
            key("security", "policy", &self.security),
            key("oncall", "break-glass", &self.on_call),
            self.tpm.tcti(),
            pem(&self.slot_key),
            first(DEFAULT_SLOT),
            first(DEFAULT_BREAK_GLASS_SLOT),
        );
        fs::write(self.anchors_path(), text).unwrap();
    }

    /// The lines that pin this machine's TPM.
    pub(crate) fn pins(&self) -> String {
        let identity = self.tpm.open().identity().unwrap();
        let (ek, ak) = (hex::encode(identity.ek_sha256), hex::encode(identity.ak_name));
        format!("ek_sha256 = \"{ek}\"\nak_name = \"{ak}\"\n")
    }

    /// Makes the slots and pins the TPM, as `enforcer tpm enroll` does.
    pub(crate) fn enroll(&self) {
        self.make_slots();
        self.write_anchors("", &self.pins());
    }

    /// Makes the slots.
    pub(crate) fn make_slots(&self) {
        let (tpm, anchors) = (self.tpm.open(), self.anchors());
        for (break_glass, approval) in [false, true].into_iter().zip(anchors.tpm.genesis.as_ref().unwrap()) {
            let plan = anchors.tpm.plan(break_glass).unwrap();
            tpm.define_slot(NvIndex::try_from(plan.index).unwrap(), &plan.auth_policy()).unwrap();
            tpm.write_slot(&first_write(&plan, approval, &self.slot_key.public()).unwrap()).unwrap();
        }
    }

    pub(crate) fn anchors_path(&self) -> PathBuf {
        self.path("anchors.toml")
    }

    pub(crate) fn anchors(&self) -> Anchors {
        Anchors::read(&self.anchors_path()).unwrap()
    }

    pub(crate) fn ak_name(&self) -> String {
        self.anchors().tpm.ak_name.unwrap()
    }

    pub(crate) fn places(&self) -> Places {
        Places {
            state: self.path("state"),
            runtime: self.path("runtime"),
            firmware_log: self.path("firmware.log"),
        }
    }

    pub(crate) fn intake(&self) -> Intake {
        Intake {
            policies: vec![self.path("policies")],
            anchors: self.anchors_path(),
            insecure_unsigned: false,
            places: self.places(),
        }
    }

    /// A statement about [`POLICY`] for the booted state.
    pub(crate) fn statement(&self, version: u64) -> Statement {
        self.statement_about(POLICY, version)
    }

    pub(crate) fn statement_about(&self, policy: &str, version: u64) -> Statement {
        Statement {
            policies: [("web.toml".to_owned(), Sha256::digest(policy).into())].into(),
            objects: BTreeSet::from([object_sha256()]),
            policy: "web".into(),
            version,
            bindings: vec![Binding { label: "booted".into(), pcrs: self.booted() }],
            no_tpm: NoTpm::Refuse,
            not_after: None,
            ak_name: None,
            break_glass: false,
            seal: None,
        }
    }

    /// A break-glass statement for this machine.
    pub(crate) fn break_glass(&self, version: u64, holds: Duration) -> Statement {
        Statement {
            bindings: vec![Binding { label: "any".into(), pcrs: self.booted().select([pcr(7)]).unwrap() }],
            not_after: Some(SystemTime::now() + holds),
            ak_name: Some(self.ak_name()),
            break_glass: true,
            ..self.statement(version)
        }
    }

    /// Signs as operations do.
    pub(crate) fn sign(&self, statement: &Statement) -> SignedFile {
        self.sign_with(statement, &[&self.ops])
    }

    pub(crate) fn sign_with(&self, statement: &Statement, keys: &[&SecretKey]) -> SignedFile {
        let slot = if statement.break_glass { DEFAULT_BREAK_GLASS_SLOT } else { DEFAULT_SLOT };
        let plan = SlotPlan::new(slot, &self.slot_key.public());
        let mut signed = SignedFile::sign(statement, &[], Some((&plan, &self.slot_key))).unwrap();
        keys.iter().for_each(|key| signed.dsse_envelope.sign(key).unwrap());
        signed
    }

    /// Puts a bundle where the machine looks.
    pub(crate) fn deliver(&self, signed: &SignedFile) {
        self.deliver_with(POLICY, signed);
    }

    pub(crate) fn deliver_with(&self, policy: &str, signed: &SignedFile) {
        self.put(&self.path("policies"), policy, signed.to_json().unwrap().as_bytes());
    }

    pub(crate) fn put(&self, directory: &Path, policy: &str, bundle: &[u8]) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("web.toml"), policy).unwrap();
        fs::write(directory.join("web.pcrsig.json"), bundle).unwrap();
    }

    /// Delivers and takes a version, as if it were installed as well.
    pub(crate) fn admit(&self, version: u64) -> Taken {
        self.deliver(&self.sign(&self.statement(version)));
        self.take().unwrap()
    }

    /// Takes what was delivered, and keeps it as an installer would.
    pub(crate) fn take(&self) -> Result<Taken, IntakeError> {
        let intake = self.intake();
        let taken = intake.take(|_| Ok(()))?;
        intake.keep(&taken).unwrap();
        Ok(taken)
    }

    /// The reason for which it is refused. A refusal leaves the slots and the measuring PCR as they are.
    pub(crate) fn refused(&self) -> &'static str {
        let before = self.traces();
        let reason = self.take().expect_err("it was taken").reason();
        assert_eq!(self.traces(), before, "a refusal ({reason}) left a trace");
        assert!(self.tpm.loaded().is_empty(), "a refusal ({reason}) left objects or sessions in the TPM");
        reason
    }

    /// What a refusal says.
    pub(crate) fn complaint(&self) -> String {
        self.take().expect_err("it was taken").to_string()
    }

    /// The slot's bytes, and what the measuring PCR holds.
    pub(crate) fn traces(&self) -> (Option<[u8; 40]>, Option<PcrValue>) {
        let tpm = self.tpm.open();
        let slot = tpm.slot(NvIndex::try_from(DEFAULT_SLOT).unwrap()).unwrap();
        let value = tpm.read_pcrs(&pcrs(&[MEASURED.number()])).unwrap().get(MEASURED);
        (slot.and_then(|slot| slot.bytes), value)
    }

    pub(crate) fn open(&self) -> Tpm {
        self.tpm.open()
    }

    /// Has the machine reach its TPM by another way, or another TPM.
    pub(crate) fn redirect(&self, to: &Tcti) {
        let text = fs::read_to_string(self.anchors_path()).unwrap();
        let (before, rest) = text.split_once("tcti = \"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        fs::write(self.anchors_path(), format!("{before}tcti = \"{to}\"{after}")).unwrap();
    }

    /// A reboot: what is under `/run` is gone, the TPM is reset, and firmware measures.
    pub(crate) fn reboot(&self) {
        fs::remove_dir_all(self.path("runtime")).unwrap();
        self.tpm.reset();
        self.boot();
    }
}
