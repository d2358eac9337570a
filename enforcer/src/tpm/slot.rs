//! The slot: an NV index that remembers which policy was admitted last.
//!
//! Only a policy that its key approved lets anybody write it, so it is the TPM that refuses an older policy, one for
//! another platform state, and any bytes that were not signed; not this program, which an attacker may replace. What is
//! to be signed is computed in `bundle::approval`.
//!
//! `PolicyNV` is judged when it is asserted, `PolicyPCR` again at the write: see [`super::Tpm::write_slot`] for what
//! follows.
#![forbid(unsafe_code)]

use std::{os::unix::ffi::OsStrExt as _, path::Path, time::Instant};

use p256::ecdsa::Signature;
use sha2::{Digest as _, Sha256};
use tss_esapi::{
    Context,
    attributes::NvIndexAttributesBuilder,
    constants::NvIndexType,
    handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{NvAuth, Provision},
    },
    structures::{Digest as TpmDigest, NvPublicBuilder},
    tss2_esys::{
        TPM2B_DIGEST, TPM2B_ECC_PARAMETER, TPM2B_MAX_NV_BUFFER, TPM2B_PUBLIC, TPML_PCR_SELECTION,
        TPMS_ECC_PARMS, TPMS_ECC_POINT, TPMS_PCR_SELECTION, TPMS_SIGNATURE_ECC, TPMT_ECC_SCHEME,
        TPMT_KDF_SCHEME, TPMT_PUBLIC, TPMT_SIGNATURE, TPMT_SYM_DEF_OBJECT, TPMU_PUBLIC_ID, TPMU_PUBLIC_PARMS,
        TPMU_SIGNATURE,
    },
};

use super::{
    Digest, NvIndex, Point, Rehearsal, Slot, SlotCondition, SlotStep, SlotWrite, Tcti, TpmError,
    code::{Code, Meaning, Refusal},
    connection::{Connection, Refused, retry},
    keys::WRONG_VALUE,
    raw::{Esys, Object},
    wire::{ECC, ECDSA, NIST_P256, NULL, SHA256},
};
use crate::measured::pcr::PcrValues;

/// Bytes in a slot: a version, big-endian, and a digest.
const SLOT_SIZE_U16: u16 = 40;
const SLOT_SIZE: usize = SLOT_SIZE_U16 as usize;
/// Of these, the version, which the TPM compares.
const VERSION_SIZE: usize = 8;

/// `TPMA_OBJECT`: `userWithAuth`, `sign`. Part of the format, as the key's Name depends on it.
const VERIFICATION_KEY: u32 = 1 << 6 | 1 << 18;

impl Connection {
    /// Reads the slot. The session proves that the Name and the bytes are what the TPM has under this index: the Name is
    /// part of what `TPM2_NV_Read` authenticates. So the public area, from which the Name is, is asked for outside of the
    /// session, and once more within it only where there is nothing to read. (Each command in the session takes 40 ms
    /// longer with swtpm on an emulated processor.)
    pub(super) fn slot(&mut self, index: NvIndex) -> Result<Option<Slot>, TpmError> {
        let read = self.in_session("TPM2_NV_Read", |context| {
            let handle = NvIndexTpmHandle::new(index.number())?;
            let mut object =
                context.execute_without_session(|context| context.tr_from_tpm_public(handle.into()))?;
            let read = contents(context, object.into());
            // A matter of the library: nothing is sent.
            context.tr_close(&mut object)?;
            read
        });
        match read {
            Ok(slot) => Ok(Some(slot)),
            Err(refused) if refused.meaning() == Meaning::NoSuchHandle => Ok(None),
            Err(refused) => Err(refused.describe("TPM2_NV_Read")),
        }
    }

    pub(super) fn define_slot(&mut self, index: NvIndex, auth_policy: &Digest) -> Result<(), TpmError> {
        let defined = self.in_session("TPM2_NV_DefineSpace", |context| {
            let attributes = NvIndexAttributesBuilder::new()
                .with_nv_index_type(NvIndexType::Ordinary)
                .with_auth_read(true)
                .with_policy_write(true)
                .with_no_da(true)
                .build()?;
            let public = NvPublicBuilder::new()
                .with_nv_index(NvIndexTpmHandle::new(index.number())?)
                .with_index_name_algorithm(HashingAlgorithm::Sha256)
                .with_index_attributes(attributes)
                .with_index_auth_policy(TpmDigest::try_from(auth_policy.as_slice())?)
                .with_data_area_size(SLOT_SIZE)
                .build()?;
            let handle = context.nv_define_space(Provision::Owner, None, public)?;
            Ok(context.tr_close(&mut handle.into())?)
        });
        defined.map_err(|refused| match (refused.meaning(), refused) {
            (Meaning::NvDefined, _) => TpmError::SlotExists(index),
            (Meaning::NvFull, _) => TpmError::NvFull,
            (_, refused) => owner_refused(refused, "TPM2_NV_DefineSpace"),
        })
    }

    pub(super) fn undefine_slot(&mut self, index: NvIndex) -> Result<(), TpmError> {
        let removed = self.in_session("TPM2_NV_UndefineSpace", |context| {
            let handle = NvIndexTpmHandle::new(index.number())?;
            let object = context.tr_from_tpm_public(TpmHandle::NvIndex(handle))?;
            Ok(context.nv_undefine_space(Provision::Owner, object.into())?)
        });
        removed.map_err(|refused| match (refused.meaning(), refused) {
            (Meaning::NoSuchHandle, _) => TpmError::SlotMissing(index),
            (_, refused) => owner_refused(refused, "TPM2_NV_UndefineSpace"),
        })
    }

    /// Writes the slot if the TPM lets it, and sees for itself that it is written.
    pub(super) fn write_slot(&mut self, write: &SlotWrite) -> Result<(), TpmError> {
        self.raw(|flow| flow.write(write))?;
        let slot = self.slot(write.index)?;
        if slot.and_then(|slot| slot.bytes) == Some(write.bytes) {
            Ok(())
        } else {
            Err(TpmError::SlotDiffers(write.index))
        }
    }

    pub(super) fn rehearse(&mut self, write: &SlotWrite) -> Result<Rehearsal, TpmError> {
        self.raw(|flow| flow.rehearse(write))
    }

    /// Opens a raw connection. Where a TPM has one client at a time, that gets it to itself.
    fn raw<T>(&mut self, use_it: impl FnOnce(&Flow<'_>) -> Result<T, TpmError>) -> Result<T, TpmError> {
        if !is_shared(self.for_raw().1) {
            self.close();
        }
        let (until, tcti) = self.for_raw();
        let esys = retry("opening the connection", until, tcti, || Ok(Esys::open(tcti)?))
            .map_err(|refused| refused.describe("opening the connection"))?;
        use_it(&Flow { esys: &esys, until, tcti })
    }
}

/// Whether several may use a TPM at a time: the kernel's devices with a resource manager. An emulator, or a TPM's own
/// device, has one client.
fn is_shared(tcti: &Tcti) -> bool {
    let managed = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"tpmrm"));
    matches!(tcti, Tcti::Device(path) if managed(path))
}

/// What is in an index, within a session.
fn contents(context: &mut Context, nv: NvIndexHandle) -> Result<Slot, Refusal> {
    let refused = match context.nv_read(NvAuth::NvIndex(nv), nv, SLOT_SIZE_U16, 0) {
        Ok(data) => {
            let name = context.tr_get_name(nv.into())?.value().try_into().map_err(|_| WRONG_VALUE)?;
            let bytes = data.value().try_into().map_err(|_| WRONG_VALUE)?;
            return Ok(Slot { name, written: true, bytes: Some(bytes) });
        }
        Err(error) => Refusal::from(error),
    };
    if matches!(refused.meaning(), Meaning::Later | Meaning::Disconnected | Meaning::Failed) {
        return Err(refused);
    }
    let (public, name) = context.nv_read_public(nv)?;
    let attributes = public.attributes();
    if attributes.written() && attributes.auth_read() && public.data_size() >= SLOT_SIZE {
        return Err(refused);
    }
    let name = name.value().try_into().map_err(|_| WRONG_VALUE)?;
    Ok(Slot { name, written: attributes.written(), bytes: None })
}

fn owner_refused(refused: Refused, command: &'static str) -> TpmError {
    match (refused.meaning(), refused) {
        (Meaning::NotAuthorized, Refused::Answer(refusal)) => {
            TpmError::HierarchyClosed { hierarchy: "owner", reason: refusal.to_string() }
        }
        (_, refused) => refused.describe(command),
    }
}

/// The commands of one write.
struct Flow<'e> {
    esys: &'e Esys,
    until: Instant,
    tcti: &'e Tcti,
}

impl<'e> Flow<'e> {
    fn write(&self, write: &SlotWrite) -> Result<(), TpmError> {
        let index = self.index(write.index)?;
        let (key, ticket) = {
            let key = self
                .give("TPM2_LoadExternal", || self.esys.load_external(&verification_key(&write.authority)))
                .map_err(|refused| step_refused(SlotStep::Signature, refused, "TPM2_LoadExternal"))?;
            let (digest, signature) = (digest(&signed_digest(write)), signature(&write.signature));
            let ticket = self
                .give("TPM2_VerifySignature", || key.verify(&digest, &signature))
                .map_err(|refused| step_refused(SlotStep::Signature, refused, "TPM2_VerifySignature"))?;
            let name = self.say("the key's Name", || key.name())?;
            (name, ticket)
        };
        let session = self.say("TPM2_StartAuthSession", || self.esys.policy_session())?;
        self.assert(write, &index, &session)?;
        let (approved, policy_ref) = (digest(&write.approved), digest(&write.policy_ref));
        self.give("TPM2_PolicyAuthorize", || session.policy_authorize(&approved, &policy_ref, &key, &ticket))
            .map_err(|refused| step_refused(SlotStep::Approval, refused, "TPM2_PolicyAuthorize"))?;
        let mut data = TPM2B_MAX_NV_BUFFER { size: SLOT_SIZE_U16, ..Default::default() };
        data.buffer[..SLOT_SIZE].copy_from_slice(&write.bytes);
        self.give("TPM2_NV_Write", || index.write(&session, &data)).map_err(|refused| {
            // A PCR changed after it was asserted.
            let moved =
                matches!(refused, Refused::Answer(Refusal::Code(code)) if code == Code::new(PCR_CHANGED));
            let step = if moved { SlotStep::Pcrs } else { SlotStep::Write };
            step_refused(step, refused, "TPM2_NV_Write")
        })
    }

    /// Everything up to the approval, which is replaced by a look at what it would have to approve.
    fn rehearse(&self, write: &SlotWrite) -> Result<Rehearsal, TpmError> {
        let index = self.index(write.index)?;
        let session = self.say("TPM2_StartAuthSession", || self.esys.policy_session())?;
        let after = self.assert(write, &index, &session)?;
        Ok(after)
    }

    /// Asserts what the approval is about: the platform's state, the growing version, the bytes.
    fn assert(
        &self,
        write: &SlotWrite,
        index: &Object<'e>,
        session: &Object<'e>,
    ) -> Result<Rehearsal, TpmError> {
        let come_to = || {
            let digest = self.say("TPM2_PolicyGetDigest", || session.policy_digest())?;
            digest.buffer.first_chunk().filter(|_| digest.size == 32).copied().ok_or_else(|| {
                TpmError::Malformed { command: "TPM2_PolicyGetDigest", reason: "not 32 bytes".to_owned() }
            })
        };
        let (mut pcrs_asserted, mut version_asserted) = (None, None);
        if let SlotCondition::Newer { pcrs } = &write.condition {
            let (composite, selection) = (digest(&pcrs.composite().0), selection(pcrs));
            self.give("TPM2_PolicyPCR", || session.policy_pcr(&composite, &selection))
                .map_err(|refused| step_refused(SlotStep::Pcrs, refused, "TPM2_PolicyPCR"))?;
            pcrs_asserted = Some(come_to()?);
            let version = digest(&write.bytes[..VERSION_SIZE]);
            self.give("TPM2_PolicyNV", || session.policy_nv_less(index, &version))
                .map_err(|refused| step_refused(SlotStep::Version, refused, "TPM2_PolicyNV"))?;
            version_asserted = Some(come_to()?);
        }
        let cp_hash = digest(&write.cp_hash);
        self.say("TPM2_PolicyCpHash", || session.policy_cp_hash(&cp_hash))?;
        Ok(Rehearsal { pcrs: pcrs_asserted, version: version_asserted, whole: come_to()? })
    }

    fn index(&self, index: NvIndex) -> Result<Object<'e>, TpmError> {
        self.give("TPM2_NV_ReadPublic", || self.esys.index(index.number())).map_err(|refused| {
            match refused.meaning() {
                Meaning::NoSuchHandle => TpmError::SlotMissing(index),
                _ => refused.describe("TPM2_NV_ReadPublic"),
            }
        })
    }

    fn give<T>(
        &self,
        command: &'static str,
        mut give: impl FnMut() -> Result<T, Code>,
    ) -> Result<T, Refused> {
        retry(command, self.until, self.tcti, || Ok(give()?))
    }

    /// Gives a command whose refusal means nothing in particular.
    fn say<T>(&self, command: &'static str, give: impl FnMut() -> Result<T, Code>) -> Result<T, TpmError> {
        self.give(command, give).map_err(|refused| refused.describe(command))
    }
}

/// `TPM_RC_PCR_CHANGED`.
const PCR_CHANGED: u32 = 0x128;
/// What a TPM answers when a check does not hold, without parameter and session numbers: `TPM_RC_VALUE`,
/// `TPM_RC_SIGNATURE`, `TPM_RC_POLICY_FAIL`, `TPM_RC_TICKET`, `TPM_RC_ECC_POINT`.
const CHECK_FAILED: [u32; 5] = [0x084, 0x09b, 0x09d, 0x0a0, 0x0a7];
/// Such answers that carry no numbers: `TPM_RC_POLICY`, `TPM_RC_PCR_CHANGED`, `TPM_RC_CPHASH`,
/// `TPM_RC_NV_UNINITIALIZED`, `TPM_RC_NV_AUTHORIZATION`.
const CHECK_FAILED_PLAIN: [u32; 5] = [0x126, PCR_CHANGED, 0x151, 0x14a, 0x149];

fn step_refused(step: SlotStep, refused: Refused, command: &'static str) -> TpmError {
    match refused {
        Refused::Answer(Refusal::Code(code)) if is_failed_check(code) => {
            TpmError::PolicyRefused { step, reason: code.to_string() }
        }
        refused => refused.describe(command),
    }
}

fn is_failed_check(code: Code) -> bool {
    // Parameter (0x40) or session number in bits 8 to 11.
    let numbered =
        |base: u32| (0..16).flat_map(move |number| [base | number << 8, base | 0x40 | number << 8]);
    let mut failed = CHECK_FAILED.into_iter().flat_map(numbered).chain(CHECK_FAILED_PLAIN);
    failed.any(|known| Code::new(known) == code)
}

/// What an approval's signature is over.
fn signed_digest(write: &SlotWrite) -> Digest {
    Sha256::new().chain_update(write.approved).chain_update(&write.policy_ref).finalize().into()
}

fn digest(bytes: &[u8]) -> TPM2B_DIGEST {
    let mut digest = TPM2B_DIGEST::default();
    let len = bytes.len().min(digest.buffer.len());
    digest.buffer[..len].copy_from_slice(&bytes[..len]);
    // At most the buffer's 64.
    digest.size = u16::try_from(len).unwrap_or(0);
    digest
}

fn parameter(bytes: &[u8]) -> TPM2B_ECC_PARAMETER {
    let mut parameter = TPM2B_ECC_PARAMETER::default();
    let len = bytes.len().min(parameter.buffer.len());
    parameter.buffer[..len].copy_from_slice(&bytes[..len]);
    parameter.size = u16::try_from(len).unwrap_or(0);
    parameter
}

fn selection(pcrs: &PcrValues) -> TPML_PCR_SELECTION {
    let mut bank = TPMS_PCR_SELECTION { hash: SHA256, sizeofSelect: 3, ..Default::default() };
    for (pcr, _) in pcrs.iter() {
        bank.pcrSelect[usize::from(pcr.number() / 8)] |= 1 << (pcr.number() % 8);
    }
    let mut selection = TPML_PCR_SELECTION { count: 1, ..Default::default() };
    selection.pcrSelections[0] = bank;
    selection
}

fn verification_key(point: &Point) -> TPM2B_PUBLIC {
    let ecc = TPMS_ECC_PARMS {
        symmetric: TPMT_SYM_DEF_OBJECT { algorithm: NULL, ..Default::default() },
        scheme: TPMT_ECC_SCHEME { scheme: NULL, ..Default::default() },
        curveID: NIST_P256,
        kdf: TPMT_KDF_SCHEME { scheme: NULL, ..Default::default() },
    };
    let unique = TPMS_ECC_POINT { x: parameter(&point.x), y: parameter(&point.y) };
    let area = TPMT_PUBLIC {
        type_: ECC,
        nameAlg: SHA256,
        objectAttributes: VERIFICATION_KEY,
        authPolicy: TPM2B_DIGEST::default(),
        parameters: TPMU_PUBLIC_PARMS { eccDetail: ecc },
        unique: TPMU_PUBLIC_ID { ecc: unique },
    };
    // The library computes the size itself.
    TPM2B_PUBLIC { size: 0, publicArea: area }
}

fn signature(signature: &Signature) -> TPMT_SIGNATURE {
    let (r, s) = signature.split_bytes();
    let ecdsa = TPMS_SIGNATURE_ECC { hash: SHA256, signatureR: parameter(&r), signatureS: parameter(&s) };
    TPMT_SIGNATURE { sigAlg: ECDSA, signature: TPMU_SIGNATURE { ecdsa } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_checks_are_told_from_other_answers() {
        // As seen: signature, approved policy, version, bytes, moved PCR.
        for code in [0x2db, 0x1c4, 0x126, 0x99d, 0x128] {
            assert!(is_failed_check(Code::new(code)), "{code:#x}");
        }
        for code in [0x100, 0x101, 0x18b, 0x922, 0xa_000a] {
            assert!(!is_failed_check(Code::new(code)), "{code:#x}");
        }
    }
}
