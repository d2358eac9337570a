//! Evidence of what a machine enforces, for a verifier elsewhere.
//!
//! The chain, link by link: the attestation key is the machine's (its Name was noted at enrolment) → the quote is by that
//! key, for the verifier's nonce → the PCR values are those that were quoted → the firmware's log leads to the boot PCRs →
//! our own log leads to the PCR that we extend → its last records name anchors, BPF object and policy → the bundle is the
//! one that is named, signed by the keys that the verifier trusts.
//!
//! systemd measures into the same PCRs (15: machine id and volume keys; since version 261 a separator into those of the
//! firmware). Its log fills the gaps, under conditions: a text that does not hash to what was extended could be about
//! anything, a policy of ours included, so such a digest has to be one that the verifier knows.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    admission::{START_VALUE, kind},
    bundle::{
        anchors::{Anchors, Role},
        dsse::EnvelopeError,
        signed::{BundleError, SignedFile},
        statement::{Statement, StatementError},
    },
    measured::{
        firmware::FirmwareLog,
        own::{self, Record},
        pcr::{PcrIndex, PcrValue, PcrValues, extend, what_a_pcr_measures},
        systemd::{self, SystemdRecord},
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
    /// What systemd says that it measured, base64; none if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    systemd_log: Option<String>,
    /// The bundle in force; none if it was not signed.
    bundle: Option<SignedFile>,
}

/// The logs that explain PCRs.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// The firmware's, if the kernel shows it.
    pub firmware: Option<Vec<u8>>,
    /// Our own.
    pub measurements: Vec<u8>,
    /// systemd's, if it measures.
    pub systemd: Option<Vec<u8>>,
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
    /// systemd says that it measured one thing, and another was.
    #[error(
        "systemd's log says that {text:?} was measured into PCR {pcr}, but that does not hash to what was extended \
         ({digest}). So it is for volume keys, which are secret. If this digest is this machine's, say so with --known \
         {digest}; if not, a policy could be hidden in it"
    )]
    Unproved {
        /// The PCR.
        pcr: PcrIndex,
        /// What systemd says.
        text: String,
        /// What was extended.
        digest: PcrValue,
    },
    /// A measurement of ours in systemd's log.
    #[error(
        "systemd's log has {text:?}, which only this program measures: somebody moved it there to hide it"
    )]
    Moved {
        /// Its text.
        text: String,
    },
    /// An older version after a newer one.
    #[error(
        "version {later} was measured after version {earlier} in one boot, which no loader does: the last was forged"
    )]
    WentBack {
        /// Measured first.
        earlier: u64,
        /// Measured then.
        later: u64,
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
    /// Whether the machine said that it is sealed, so that root cannot change what is enforced.
    pub sealed: bool,
    /// The state that the platform is in, of those that the policy is for.
    pub state: Option<String>,
    /// SHA-256 of the BPF object that was loaded.
    pub object: String,
    /// Whether the machine's anchors are the ones that the verifier has.
    pub same_anchors: bool,
    /// PCRs that the firmware's log explains.
    pub explained: Vec<PcrIndex>,
    /// What others measured into the same PCRs, as systemd says.
    pub others: Vec<String>,
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
    pub fn of(quote: &SignedQuote, pcrs: PcrValues, logs: &Logs, bundle: Option<SignedFile>) -> Self {
        let encoded = |log: &Option<Vec<u8>>| log.as_ref().map(|log| BASE64.encode(log));
        Self {
            schema: SCHEMA,
            attest: BASE64.encode(&quote.attest),
            signature: BASE64.encode(&quote.signature),
            ak_public: BASE64.encode(&quote.ak_public),
            pcrs,
            firmware_log: encoded(&logs.firmware),
            measurements: BASE64.encode(&logs.measurements),
            systemd_log: encoded(&logs.systemd),
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

    /// Follows the chain to its end. `known` are digests that the verifier knows to be this machine's, of what systemd
    /// measures and does not log.
    ///
    /// # Errors
    /// [`EvidenceError`]: the first link that does not hold.
    pub fn verify(
        &self,
        ak_name: &Name,
        nonce: &[u8; 32],
        anchors: &Anchors,
        known: &BTreeSet<PcrValue>,
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
        let mut others = Others::read(self.systemd_log.as_deref(), known)?;
        let explained = self.explained_by_firmware(&mut others)?;
        let records = self.measured(anchors.tpm.measure_pcr, &mut others)?;
        refuse_going_back(&records)?;
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
            sealed: last("seal").is_some_and(|text| text.starts_with("seal:on:")),
            object: object.to_owned(),
            same_anchors: last("anchors") == Some(&anchors_text),
            explained,
            others: others.said,
            denies_all,
            reset_count: quoted.reset_count,
            measured: records.iter().map(|record| record.text().to_owned()).collect(),
        })
    }

    /// The PCRs that the firmware's log leads to. Those that the kernel and user space go on extending are not compared.
    fn explained_by_firmware(&self, others: &mut Others<'_>) -> Result<Vec<PcrIndex>, EvidenceError> {
        let Some(log) = &self.firmware_log else { return Ok(Vec::new()) };
        let log = FirmwareLog::parse(&decoded("firmware_log", log)?)
            .map_err(|error| EvidenceError::Malformed(error.to_string()))?;
        let mut explained = Vec::new();
        for pcr in PcrIndex::all().filter(|pcr| pcr.number() < 10) {
            let (quoted, replayed) = (self.pcrs.get(pcr).unwrap_or(pcr.start()), log.replay_of(pcr));
            if !others.lead(pcr, replayed, quoted)? {
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

    /// The records that were extended, if they explain the PCR from its start, together with what systemd says that it
    /// extended in between.
    fn measured(&self, pcr: PcrIndex, others: &mut Others<'_>) -> Result<Vec<Record>, EvidenceError> {
        let log = own::parse(&decoded("measurements", &self.measurements)?)
            .map_err(|error| EvidenceError::Malformed(error.to_string()))?;
        let mut records: Vec<Record> = log.records.into_iter().filter(|record| record.pcr() == pcr).collect();
        let quoted = self.pcrs.get(pcr).unwrap_or(pcr.start());
        let mut values = vec![pcr.start()];
        for record in &records {
            // A record says what the PCR held before it where others had extended it. The digests tell whether it is so.
            let mut value = values.last().copied().unwrap_or(pcr.start());
            if let Some(start) = record.remarks().get(START_VALUE) {
                let start = start.as_str().and_then(|text| text.parse().ok());
                let start = start.ok_or(EvidenceError::Measurements { pcr })?;
                if !others.lead(pcr, value, start)? {
                    return Err(EvidenceError::Unexplained { pcr });
                }
                value = start;
            }
            values.push(extend(value, record.digest()));
        }
        // A record is logged before it is extended, so the last may not have been.
        if let Some(extended) = values.iter().rposition(|value| *value == quoted) {
            records.truncate(extended);
            return Ok(records);
        }
        // Others may have extended the PCR since.
        match values.last() {
            Some(last) if others.lead(pcr, *last, quoted)? => Ok(records),
            _ => Err(EvidenceError::Measurements { pcr }),
        }
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

/// What systemd says that it measured.
struct Others<'k> {
    /// Not yet accounted for.
    left: BTreeMap<PcrIndex, VecDeque<SystemdRecord>>,
    known: &'k BTreeSet<PcrValue>,
    /// What was accounted for, for people.
    said: Vec<String>,
}

impl<'k> Others<'k> {
    fn read(log: Option<&str>, known: &'k BTreeSet<PcrValue>) -> Result<Self, EvidenceError> {
        let mut left: BTreeMap<_, VecDeque<_>> = BTreeMap::new();
        if let Some(log) = log {
            let records = systemd::parse(&decoded("systemd_log", log)?);
            for record in records.map_err(|error| EvidenceError::Malformed(error.to_string()))? {
                left.entry(record.pcr).or_default().push_back(record);
            }
        }
        Ok(Self { left, known, said: Vec::new() })
    }

    /// Whether systemd's next measurements into a PCR lead from one value to another. If so, they are accounted for; what
    /// could hide something is an error.
    fn lead(&mut self, pcr: PcrIndex, from: PcrValue, to: PcrValue) -> Result<bool, EvidenceError> {
        let (mut value, mut steps) = (from, 0);
        for record in self.left.get(&pcr).into_iter().flatten() {
            if value == to {
                break;
            }
            value = extend(value, record.digest);
            steps += 1;
        }
        if value != to {
            return Ok(false);
        }
        for record in self.left.get_mut(&pcr).into_iter().flat_map(|left| left.drain(..steps)) {
            self.said.push(judged(record, self.known)?);
        }
        Ok(true)
    }
}

/// What a measurement of systemd's was about, for people.
fn judged(record: SystemdRecord, known: &BTreeSet<PcrValue>) -> Result<String, EvidenceError> {
    let SystemdRecord { pcr, digest, text, is_proved } = record;
    if is_proved && ["anchors", "bpf", "in-force"].contains(&kind(&text)) {
        return Err(EvidenceError::Moved { text });
    }
    match (is_proved, known.contains(&digest)) {
        (true, _) => Ok(format!("PCR {pcr}: {text}")),
        (false, true) => Ok(format!("PCR {pcr}: {text} (a digest that is known)")),
        (false, false) => Err(EvidenceError::Unproved { pcr, text, digest }),
    }
}

/// A loader takes no older version than it had. Whoever can extend the PCR can add a record of one.
fn refuse_going_back(records: &[Record]) -> Result<(), EvidenceError> {
    for kind in ["policy:", "break-glass:"] {
        let mut highest = 0;
        for text in records.iter().filter_map(|record| record.text().strip_prefix(kind)) {
            let version = text.split(':').nth(1).and_then(|version| version.parse().ok()).unwrap_or(0);
            if version < highest {
                return Err(EvidenceError::WentBack { earlier: highest, later: version });
            }
            highest = version;
        }
    }
    Ok(())
}

fn decoded(name: &str, text: &str) -> Result<Vec<u8>, EvidenceError> {
    BASE64.decode(text).map_err(|error| EvidenceError::Malformed(format!("{name} is not base64: {error}")))
}
