//! The two keys: the endorsement key, which is the TPM's identity, and our attestation key beside it.
//!
//! Both are primary keys of the endorsement hierarchy: made anew from the TPM's own seed whenever they are needed, always
//! the same, nothing to store. A key in the owner hierarchy would not do for quotes: for those, a TPM obfuscates its
//! counters of resets.
#![forbid(unsafe_code)]

use sha2::{Digest as _, Sha256};
use tss_esapi::{
    WrapperErrorKind,
    abstraction::{AsymmetricAlgorithmSelection, ek},
    attributes::{ObjectAttributesBuilder, SessionAttributesBuilder},
    constants::SessionType,
    handles::{AuthHandle, KeyHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        resource_handles::{Hierarchy, NvAuth},
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        EccPoint, EccScheme, EncryptedSecret, HashScheme, IdObject, KeyDerivationFunctionScheme, Nonce,
        Public, PublicBuilder, PublicEccParameters, SymmetricDefinition, SymmetricDefinitionObject,
    },
    traits::Marshall as _,
};

use super::{
    EkCertificate, Identity, TpmError,
    code::{Meaning, Refusal},
    connection::{Connection, Refused},
    credential, name_of, wire,
};
use crate::sys;

/// Where the TPM's maker puts the certificates of its endorsement keys: of the one for P-256, and of that for RSA.
const CERTIFICATES: [u32; 2] = [0x01c0_000a, 0x01c0_0002];

/// A key that is loaded into the TPM.
#[derive(Clone)]
pub(super) struct LoadedKey {
    pub(super) handle: KeyHandle,
    /// `TPMT_PUBLIC`.
    pub(super) public: Vec<u8>,
}

impl Connection {
    /// The endorsement key. Sessions are salted to what is compared with the pin here: the library keeps the public
    /// area that came with the handle.
    pub(super) fn endorsement_key(&mut self) -> Result<LoadedKey, TpmError> {
        if let Some(key) = &self.endorsement {
            return Ok(key.clone());
        }
        let template = ek::create_ek_public_from_default_template_2(
            AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            None,
        );
        let key = self.primary(template)?;
        let found = Sha256::digest(&key.public).into();
        if let Some(pins) = self.pins
            && pins.ek_sha256 != found
        {
            return Err(TpmError::OtherTpm { expected: pins.ek_sha256, found });
        }
        // Also without pins: what we encrypt to must be a key that cannot leave a TPM.
        if credential::endorsement_key(&key.public).is_err() {
            return Err(malformed("the endorsement key is not made from its template"));
        }
        Ok(self.endorsement.insert(key).clone())
    }

    /// The attestation key.
    pub(super) fn attestation_key(&mut self) -> Result<LoadedKey, TpmError> {
        if let Some(key) = &self.attestation {
            return Ok(key.clone());
        }
        let key = self.primary(attestation_template())?;
        let found = name_of(&key.public);
        if let Some(pins) = self.pins
            && pins.ak_name != found
        {
            return Err(TpmError::OtherAk { expected: pins.ak_name, found });
        }
        if wire::attestation_key(&key.public).is_err() {
            return Err(malformed("the attestation key is not made from its template"));
        }
        Ok(self.attestation.insert(key).clone())
    }

    fn primary(&mut self, template: tss_esapi::Result<Public>) -> Result<LoadedKey, TpmError> {
        let template = template.map_err(|error| malformed(&error.to_string()))?;
        let made = self.attempt("TPM2_CreatePrimary", |context| {
            let made = context.execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(Hierarchy::Endorsement, template.clone(), None, None, None, None)
            })?;
            Ok((made.key_handle, made.out_public.marshall()?))
        });
        let (handle, public) = made.map_err(|refused| match (refused.meaning(), refused) {
            (Meaning::NotAuthorized, Refused::Answer(refusal)) => {
                TpmError::HierarchyClosed { hierarchy: "endorsement", reason: refusal.to_string() }
            }
            (_, refused) => refused.describe("TPM2_CreatePrimary"),
        })?;
        Ok(LoadedKey { handle, public })
    }

    pub(super) fn identity(&mut self) -> Result<Identity, TpmError> {
        let endorsement = self.endorsement_key()?;
        let attestation = self.attestation_key()?;
        Ok(Identity {
            ek_sha256: Sha256::digest(&endorsement.public).into(),
            ek_public: endorsement.public,
            ak_name: name_of(&attestation.public),
            ak_public: attestation.public,
            ek_certificate: self.certificate()?,
        })
    }

    fn certificate(&mut self) -> Result<Option<EkCertificate>, TpmError> {
        for index in CERTIFICATES {
            let read = self.attempt("TPM2_NV_Read", |context| {
                let handle = NvIndexTpmHandle::new(index)?;
                let object = context.execute_without_session(|context| {
                    context.tr_from_tpm_public(TpmHandle::NvIndex(handle))
                })?;
                Ok(context.execute_with_session(Some(AuthSession::Password), |context| {
                    tss_esapi::abstraction::nv::read_full(context, NvAuth::NvIndex(object.into()), handle)
                })?)
            });
            match read {
                Ok(der) => return Ok(Some(EkCertificate { index, der })),
                Err(refused) if refused.meaning() == Meaning::NoSuchHandle => {}
                Err(refused) => return Err(refused.describe("TPM2_NV_Read")),
            }
        }
        Ok(None)
    }

    /// Has the TPM open a secret that only the holder of the endorsement key can open, and only if it holds the
    /// attestation key, too. The secret is wrapped here: a TPM that wrapped it itself would know it anyway.
    pub(super) fn prove_identity(&mut self) -> Result<(), TpmError> {
        let endorsement = self.endorsement_key()?;
        let attestation = self.attestation_key()?;
        let point = credential::endorsement_key(&endorsement.public)
            .map_err(|wire::Malformed| malformed("the endorsement key is not made from its template"))?;
        let secret: [u8; 32] =
            sys::random().map_err(|source| TpmError::System { what: "random bytes", source })?;
        let challenge = credential::wrap(&secret, point, &name_of(&attestation.public))
            .map_err(|error| malformed(&error.to_string()))?;
        let session = self.command("TPM2_StartAuthSession", |context| {
            context.start_auth_session(
                None,
                None,
                None,
                SessionType::Policy,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
        })?;
        let session = session.ok_or_else(|| malformed("no session"))?;
        let answer = self.attempt("TPM2_ActivateCredential", |context| {
            let (attributes, mask) = SessionAttributesBuilder::new().with_continue_session(true).build();
            context.tr_sess_set_attributes(session, attributes, mask)?;
            let policy = PolicySession::try_from(session)?;
            context.execute_without_session(|context| context.policy_restart(policy))?;
            context.execute_with_session(Some(AuthSession::Password), |context| {
                let (nonce, digest) = (Nonce::default(), tss_esapi::structures::Digest::default());
                context.policy_secret(policy, AuthHandle::Endorsement, nonce, digest, Nonce::default(), None)
            })?;
            let blob = IdObject::try_from(challenge.blob.clone())?;
            let wrapped = EncryptedSecret::try_from(challenge.secret.clone())?;
            let sessions = (Some(AuthSession::Password), Some(session), None);
            Ok(context.execute_with_sessions(sessions, |context| {
                context.activate_credential(attestation.handle, endorsement.handle, blob, wrapped)
            })?)
        });
        match self.flush_session(session, answer) {
            Ok(opened) if opened.value() == secret => Ok(()),
            // The TPM can refuse because it cannot open it: wrong key or wrong Name inside.
            Ok(_) | Err(Refused::Answer(_)) => Err(TpmError::NoProof),
            Err(Refused::Known(error)) => Err(error),
        }
    }
}

fn attestation_template() -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_sign_encrypt(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(PublicEccParameters::new(
            SymmetricDefinitionObject::Null,
            EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)),
            EccCurve::NistP256,
            KeyDerivationFunctionScheme::Null,
        ))
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

pub(super) fn malformed(reason: &str) -> TpmError {
    TpmError::Malformed { command: "TPM2_CreatePrimary", reason: reason.to_owned() }
}

/// A value from the TPM that does not fit what it must be.
pub(super) const WRONG_VALUE: Refusal = Refusal::Wrapper(WrapperErrorKind::WrongValueFromTpm);
