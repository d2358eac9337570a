//! Evidence of what a machine enforces, for a verifier elsewhere.
//!
//! The chain, link by link: the attestation key is the machine's (its Name was noted at enrolment) → the quote is by that
//! key, for the verifier's nonce → the PCR values are those that were quoted → the firmware's log leads to the boot PCRs →
//! our own log leads to the PCR that we extend → its last records name anchors, BPF object and policy → the bundle is the
//! one that is named, signed by the keys that the verifier trusts.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    admission::{START_VALUE, kind, replayed},
    bundle::{
        anchors::{Anchors, Role},
        dsse::EnvelopeError,
        signed::{BundleError, SignedFile},
        statement::{Statement, StatementError},
    },
    measured::{
        firmware::FirmwareLog,
        own::{self, Record},
        pcr::{PcrIndex, PcrValues, what_a_pcr_measures},
    },
    tpm::{Name, QuoteError, SignedQuote},
};

/// Version of the form.
const SCHEMA: u32 = 1;

/// PCRs that evidence is about: everything but those that user space can reset.
#[must_use]
pub fn quoted_pcrs() -> BTreeSet<PcrIndex> {
    PcrIndex::all().filter(|pcr| pcr.number() < 16).collect()
}

/// What a machine hands out. Nothing in it is believed before it is verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// [`SCHEMA`].
    schema: u32,
    /// `TPMS_ATTEST`, base64.
    attest: String,
    /// Its signature in DER, base64.
    signature: String,
    /// `TPMT_PUBLIC` of the attestation key, base64.
    ak_public: String,
    /// What the PCRs held.
    pcrs: PcrValues,
    /// The firmware's event log, base64; none if the kernel shows none.
    firmware_log: Option<String>,
    /// What was measured since, base64.
    measurements: String,
    /// The bundle in force; none if it was not signed.
    bundle: Option<SignedFile>,
}

/// Evidence that proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// Not evidence.
    #[error("it is not evidence: {0}")]
    Malformed(String),
    /// The quote.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// The values are not those that were quoted.
    #[error("the PCR values are not those that the TPM quoted")]
    Values,
    /// The firmware's log does not lead to the values.
    #[error(
        "the firmware's log does not lead to what the TPM quoted of {}: quoted {quoted}, the log gives {replayed}. The log \
         was changed, or something was measured that is not in it",
        what_a_pcr_measures(*pcr)
    )]
    FirmwareLog {
        /// The first PCR.
        pcr: PcrIndex,
        /// What it held.
        quoted: String,
        /// What the log gives.
        replayed: String,
    },
    /// Our own log does not lead to the value.
    #[error(
        "the measurement log does not lead to what the TPM quoted of PCR {pcr}: the log was changed, or something else \
         extends that PCR"
    )]
    Measurements {
        /// The PCR.
        pcr: PcrIndex,
    },
    /// Something else was measured first.
    #[error(
        "something was measured into PCR {pcr} that the log does not explain; what it was, nobody can tell, so a policy \
         could be hidden in it"
    )]
    Unexplained {
        /// The PCR.
        pcr: PcrIndex,
    },
    /// Nothing is in force.
    #[error("no policy was measured since this boot, so none that was admitted is in force")]
    NothingMeasured,
    /// The bundle.
    #[error("the bundle is not the one that was measured: {found}, measured was {measured}")]
    OtherBundle {
        /// What came with the evidence.
        found: String,
        /// What was measured.
        measured: String,
    },
    /// The bundle is missing.
    #[error("the bundle that was measured ({0}) did not come with the evidence")]
    NoBundle(String),
    /// The signatures.
    #[error("the bundle is not signed by the keys of these anchors: {0}")]
    Signatures(#[from] EnvelopeError),
    /// The statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The object is not one that the bundle names.
    #[error("the BPF object that was measured ({0}) is not one that the bundle is for")]
    Object(String),
}

impl From<BundleError> for EvidenceError {
    fn from(error: BundleError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// What evidence proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The policy in force.
    pub policy: String,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its statement.
    pub statement: String,
    /// Policy files, with the SHA-256 of each.
    pub files: Vec<(String, String)>,
    /// Whether it is for an emergency.
    pub break_glass: bool,
    /// The state that the platform is in, of those that the policy is for.
    pub state: Option<String>,
    /// SHA-256 of the BPF object that was loaded.
    pub object: String,
    /// Whether the machine's anchors are the ones that the verifier has.
    pub same_anchors: bool,
    /// PCRs that the firmware's log explains.
    pub explained: Vec<PcrIndex>,
    /// Whether nothing is allowed, and why.
    pub denies_all: Option<String>,
    /// The TPM's count of resets.
    pub reset_count: u32,
    /// What was measured, in order.
    pub measured: Vec<String>,
}

/// What evidence never proves.
pub const NOT_PROVED: &[&str] = &[
    "that the attestation key is in a genuine TPM: that was decided when its Name was noted at enrolment",
    "that nobody with the chip in hand reset it and replayed measurements: a discrete TPM's bus can be tampered with",
    "that root did not go around the loader after it measured: what stops that is the enforcer's self-protection",
    "anything after the moment of the quote",
];

impl Evidence {
    /// Of these parts.
    #[must_use]
    pub fn of(
        quote: &SignedQuote,
        pcrs: PcrValues,
        firmware_log: Option<Vec<u8>>,
        measurements: &[u8],
        bundle: Option<SignedFile>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            attest: BASE64.encode(&quote.attest),
            signature: BASE64.encode(&quote.signature),
            ak_public: BASE64.encode(&quote.ak_public),
            pcrs,
            firmware_log: firmware_log.map(|log| BASE64.encode(log)),
            measurements: BASE64.encode(measurements),
            bundle,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`EvidenceError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let evidence: Self =
            serde_json::from_slice(bytes).map_err(|error| EvidenceError::Malformed(error.to_string()))?;
        if evidence.schema != SCHEMA {
            return Err(EvidenceError::Malformed(format!("it is of schema {}", evidence.schema)));
        }
        Ok(evidence)
    }

    /// As it is handed out.
    ///
    /// # Errors
    /// [`EvidenceError::Malformed`]: never for what this type can hold.
    pub fn to_json(&self) -> Result<String, EvidenceError> {
        serde_json::to_string(self).map_err(|error| EvidenceError::Malformed(error.to_string()))
    }

    /// Follows the chain to its end.
    ///
    /// # Errors
    /// [`EvidenceError`]: the first link that does not hold.
    pub fn verify(
        &self,
        ak_name: &Name,
        nonce: &[u8; 32],
        anchors: &Anchors,
    ) -> Result<Verdict, EvidenceError> {
        let quote = SignedQuote {
            attest: decoded("attest", &self.attest)?,
            signature: decoded("signature", &self.signature)?,
            ak_public: decoded("ak_public", &self.ak_public)?,
        };
        let quoted = quote.verify(ak_name, nonce, &quoted_pcrs())?;
        let indices: BTreeSet<PcrIndex> = self.pcrs.iter().map(|(pcr, _)| pcr).collect();
        if indices != quoted_pcrs() || self.pcrs.composite() != quoted.composite {
            return Err(EvidenceError::Values);
        }
        let explained = self.explained_by_firmware()?;
        let records = self.measured(anchors.tpm.measure_pcr)?;
        let last = |of: &str| records.iter().rev().map(Record::text).find(|text| kind(text) == of);
        let in_force = last("in-force").ok_or(EvidenceError::NothingMeasured)?;
        let denies_all = in_force.strip_prefix("deny-all:").map(str::to_owned);
        // What nothing is allowed of, was admitted before.
        let admitted = records
            .iter()
            .rev()
            .map(Record::text)
            .find(|text| kind(text) == "in-force" && !text.starts_with("deny-all:"))
            .ok_or(EvidenceError::NothingMeasured)?;
        let (statement, digest) = self.bundle_measured_as(admitted, anchors)?;
        let object = last("bpf").and_then(|text| text.strip_prefix("bpf:")).unwrap_or_default();
        if !statement.objects.iter().any(|digest| hex::encode(digest) == object) {
            return Err(EvidenceError::Object(object.to_owned()));
        }
        let anchors_text = format!("anchors:{}", hex::encode(anchors.digest));
        let holds = |pcrs: &PcrValues| pcrs.iter().all(|(pcr, value)| self.pcrs.get(pcr) == Some(value));
        Ok(Verdict {
            state: statement.bindings.iter().find(|binding| holds(&binding.pcrs)).map(|it| it.label.clone()),
            files: statement
                .policies
                .iter()
                .map(|(name, digest)| (name.clone(), hex::encode(digest)))
                .collect(),
            policy: statement.policy,
            version: statement.version,
            statement: digest,
            break_glass: statement.break_glass,
            object: object.to_owned(),
            same_anchors: last("anchors") == Some(&anchors_text),
            explained,
            denies_all,
            reset_count: quoted.reset_count,
            measured: records.iter().map(|record| record.text().to_owned()).collect(),
        })
    }

    /// The PCRs that the firmware's log leads to. Those that the kernel and user space go on extending are not compared.
    fn explained_by_firmware(&self) -> Result<Vec<PcrIndex>, EvidenceError> {
        let Some(log) = &self.firmware_log else { return Ok(Vec::new()) };
        let log = FirmwareLog::parse(&decoded("firmware_log", log)?)
            .map_err(|error| EvidenceError::Malformed(error.to_string()))?;
        let mut explained = Vec::new();
        for pcr in PcrIndex::all().filter(|pcr| pcr.number() < 10) {
            let (quoted, replayed) = (self.pcrs.get(pcr).unwrap_or(pcr.start()), log.replay_of(pcr));
            if quoted != replayed {
                return Err(EvidenceError::FirmwareLog {
                    pcr,
                    quoted: quoted.to_string(),
                    replayed: replayed.to_string(),
                });
            }
            explained.push(pcr);
        }
        Ok(explained)
    }

    /// The records that were extended, if they explain the PCR from its start.
    fn measured(&self, pcr: PcrIndex) -> Result<Vec<Record>, EvidenceError> {
        let log = own::parse(&decoded("measurements", &self.measurements)?)
            .map_err(|error| EvidenceError::Malformed(error.to_string()))?;
        let records: Vec<Record> = log.records.into_iter().filter(|record| record.pcr() == pcr).collect();
        let value = self.pcrs.get(pcr).unwrap_or(pcr.start());
        let extended = replayed(&records, pcr).matches(value).ok_or(EvidenceError::Measurements { pcr })?;
        if records.iter().any(|record| record.remarks().contains_key(START_VALUE)) {
            return Err(EvidenceError::Unexplained { pcr });
        }
        Ok(records.into_iter().take(extended).collect())
    }

    /// The statement of the bundle that was measured, if the keys signed it.
    fn bundle_measured_as(
        &self,
        text: &str,
        anchors: &Anchors,
    ) -> Result<(Statement, String), EvidenceError> {
        let measured = text.rsplit(':').next().unwrap_or_default();
        let bundle = self.bundle.as_ref().ok_or_else(|| EvidenceError::NoBundle(measured.to_owned()))?;
        let (role, threshold) = if text.starts_with("break-glass:") {
            (Role::BreakGlass, anchors.break_glass_threshold)
        } else {
            (Role::Policy, anchors.threshold)
        };
        let (payload, _) = bundle.dsse_envelope.open(&anchors.keys_for(role), threshold)?;
        let found = hex::encode(Sha256::digest(&payload));
        if found != measured {
            return Err(EvidenceError::OtherBundle { found, measured: measured.to_owned() });
        }
        Ok((Statement::parse(&payload)?, found))
    }
}

fn decoded(name: &str, text: &str) -> Result<Vec<u8>, EvidenceError> {
    BASE64.decode(text).map_err(|error| EvidenceError::Malformed(format!("{name} is not base64: {error}")))
}
