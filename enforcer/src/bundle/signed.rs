//! A bundle: policy files and `NAME.pcrsig.json`, which says who signed them and for which platform states.
//!
//! [`SignedSet::open`] decides everything that can be decided without a TPM, from bytes that were read once. What is left,
//! whether this platform is in one of the states and whether the bundle is older than what was admitted before, is
//! [`crate::admission`]'s.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    anchors::{Anchors, Role, TpmMode},
    approval::{self, Digest, SlotPlan, SlotRecord},
    dsse::{Envelope, EnvelopeError},
    key::{KeyId, SecretKey},
    sources::Mistakes,
    statement::{Binding, NoTpm, OBJECT_NAME, Statement, StatementError},
    verify::{Candidate, PolicySource},
};

/// How the file that holds the signatures is called.
pub const ENDING: &str = ".pcrsig.json";
/// What it says it is.
const MEDIA_TYPE: &str = "application/vnd.enforcer.pcr-bound-policy.v1+json";
/// No bundle is longer. Statements have bounds of their own.
pub const MAX_BYTES: usize = 4 << 20;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SignedFile {
    /// [`MEDIA_TYPE`].
    media_type: String,
    /// The statement, signed.
    pub dsse_envelope: Envelope,
    /// What lets the TPM take the record into its slot: one for each binding.
    #[serde(default)]
    tpm_approvals: Vec<Approval>,
}

/// The slot key's consent to one record in one platform state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approval {
    /// Which binding.
    binding: usize,
    /// The policy that is approved, in hexadecimal: for people, and to find mistakes.
    pol: String,
    /// DER in base64.
    sig: String,
}

/// The bytes of a bundle, read once. Nothing is known about them.
#[derive(Clone, Debug)]
pub struct BundleFiles {
    /// Where they came from, for people: the path of the `.pcrsig.json`.
    pub origin: String,
    /// The `.pcrsig.json`.
    pub signatures: Vec<u8>,
    /// The policies that lie beside it, by file name.
    pub policies: BTreeMap<String, PolicySource>,
    /// Whether these are all policies of a directory that shall be in force whole. A policy that was not signed is a
    /// mistake then.
    pub nothing_else: bool,
}

/// A bundle that is refused for what it is, whatever machine looks at it.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle.
    #[error("it is not a bundle: {0}")]
    Malformed(String),
    /// The signatures do not suffice.
    #[error(transparent)]
    Signatures(#[from] EnvelopeError),
    /// The statement cannot be used.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Signed by keys for something else.
    #[error("it is signed by {signed} keys, but is {is}; sign it with the other keys")]
    Role {
        /// What for the keys are.
        signed: &'static str,
        /// What it is.
        is: &'static str,
    },
    /// For machines that take another policy.
    #[error("it is policy {found:?}; this machine takes {}", expected.as_deref().map_or_else(|| "no signed policy: its anchors name none".to_owned(), |name| format!("{name:?} (`policy` in the anchors)")))]
    Policy {
        /// Which it is.
        found: String,
        /// Which it should be.
        expected: Option<String>,
    },
    /// Too late.
    #[error("it held until {}; sign it anew", humantime::format_rfc3339_seconds(*not_after))]
    Expired {
        /// Until when.
        not_after: SystemTime,
    },
    /// For another machine.
    #[error("it is for the machine with attestation key {found}; this one's is {}", expected.as_deref().unwrap_or("not enrolled"))]
    Machine {
        /// Which.
        found: String,
        /// This one.
        expected: Option<String>,
    },
    /// A policy is not the one that was signed.
    #[error("{name} is not what was signed: its SHA-256 is {found}, signed was {expected}")]
    Subject {
        /// File name.
        name: String,
        /// Its digest.
        found: String,
        /// What was signed.
        expected: String,
    },
    /// A policy is missing.
    #[error("{name} was signed and is not there")]
    Missing {
        /// File name.
        name: String,
    },
    /// A policy nobody signed lies beside those that are.
    #[error("{name} lies beside the bundle and was not signed with it; remove it, or sign all anew")]
    Unsigned {
        /// File name.
        name: String,
    },
    /// For another version of the programs.
    #[error("it is not for this version's BPF object ({found}); sign it with `--object {found}` as well")]
    Object {
        /// This one's digest.
        found: String,
    },
    /// It needs a TPM, and the anchors say there is none.
    #[error("it does not allow machines without a TPM (noTpm), and the anchors say tpm.mode = \"off\"")]
    NeedsTpm,
    /// It is bound to no state, and the anchors demand one.
    #[error("it is bound to no platform state, and the anchors demand one (tpm.mode = \"require\")")]
    Unbound,
    /// The policies have mistakes.
    #[error("{0}")]
    Mistakes(Mistakes),
}

impl BundleError {
    /// For programs: a word that stays.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Signatures(EnvelopeError::PayloadType { .. }) => "payload-type",
            Self::Signatures(EnvelopeError::Threshold { .. }) => "signatures",
            Self::Signatures(EnvelopeError::Payload(_) | EnvelopeError::TooMany(_)) => "malformed",
            Self::Statement(_) => "statement",
            Self::Role { .. } => "key-role",
            Self::Policy { .. } => "other-policy",
            Self::Expired { .. } => "expired",
            Self::Machine { .. } => "other-machine",
            Self::Subject { .. } => "subject",
            Self::Missing { .. } => "subject-missing",
            Self::Unsigned { .. } => "unsigned-file",
            Self::Object { .. } => "object",
            Self::NeedsTpm => "needs-tpm",
            Self::Unbound => "unbound",
            Self::Mistakes(_) => "mistakes",
        }
    }
}

/// A bundle whose signatures, subjects and policies are right. Whether it is for this platform is open.
#[derive(Clone, Debug)]
pub struct SignedSet {
    origin: String,
    statement: Statement,
    record: SlotRecord,
    signers: Vec<KeyId>,
    approvals: Vec<Approval>,
    candidates: Vec<Candidate>,
}

impl SignedSet {
    /// Opens a bundle: signatures first, everything else after.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn open(
        files: BundleFiles,
        anchors: &Anchors,
        object: &Digest,
        now: SystemTime,
    ) -> Result<Self, BundleError> {
        let file = SignedFile::parse(&files.signatures)?;
        let (payload, signers, role) = opened(&file.dsse_envelope, anchors)?;
        let statement = Statement::parse(&payload)?;
        check_statement(&statement, role, anchors, object, now)?;
        let candidates = check_subjects(&statement, files.policies, files.nothing_else)?;
        Ok(Self {
            origin: files.origin,
            record: SlotRecord::of(statement.version, &payload),
            statement,
            signers,
            approvals: file.tpm_approvals,
            candidates,
        })
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What was signed.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// What the slot holds once it is admitted.
    #[must_use]
    pub const fn record(&self) -> SlotRecord {
        self.record
    }

    /// Who signed.
    #[must_use]
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// The compiled policies.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The compiled policies, given away. Installable they are only with a proof of admission.
    pub(super) fn into_candidates(self) -> Vec<Candidate> {
        self.candidates
    }

    /// The slot key's signature for one binding, if it is there and right.
    #[must_use]
    pub fn approval(&self, binding: usize, plan: &SlotPlan, key: &super::key::PublicKey) -> Option<Vec<u8>> {
        let state = &self.statement.bindings.get(binding)?.pcrs;
        let approved = plan.approved(self.record, state);
        let signed = approval::to_be_signed(&approved, approval::POLICY_REF);
        let of_binding = self.approvals.iter().filter(|approval| approval.binding == binding);
        of_binding
            .filter_map(|approval| BASE64.decode(&approval.sig).ok())
            .find(|der| key.signed_digest(&signed, der))
    }
}

impl SignedFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`BundleError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BYTES {
            return Err(BundleError::Malformed(format!("it is longer than {MAX_BYTES} bytes")));
        }
        let file: Self =
            serde_json::from_slice(bytes).map_err(|error| BundleError::Malformed(error.to_string()))?;
        if file.media_type != MEDIA_TYPE {
            return Err(BundleError::Malformed(format!("its type is {:?}", file.media_type)));
        }
        Ok(file)
    }

    /// Signs a statement, and approves its record in every state it is bound to. Needs no TPM.
    ///
    /// # Errors
    /// [`BundleError::Statement`] if nobody could use it.
    pub fn sign(
        statement: &Statement,
        keys: &[SecretKey],
        slot: Option<(&SlotPlan, &SecretKey)>,
    ) -> Result<Self, BundleError> {
        let payload = statement.to_payload()?;
        let mut dsse_envelope = Envelope::around(&payload);
        for key in keys {
            dsse_envelope.sign(key)?;
        }
        let record = SlotRecord::of(statement.version, &payload);
        let approve = |(binding, state): (usize, &Binding)| {
            slot.map(|(plan, key)| {
                let approved = plan.approved(record, &state.pcrs);
                Approval {
                    binding,
                    pol: hex::encode(approved),
                    sig: BASE64.encode(approval::sign(key, &approved).to_der()),
                }
            })
        };
        let tpm_approvals = statement.bindings.iter().enumerate().filter_map(approve).collect();
        Ok(Self { media_type: MEDIA_TYPE.into(), dsse_envelope, tpm_approvals })
    }

    /// As it is written.
    ///
    /// # Errors
    /// [`BundleError::Malformed`]: never for what this type can hold.
    pub fn to_json(&self) -> Result<String, BundleError> {
        serde_json::to_string_pretty(self)
            .map(|json| json + "\n")
            .map_err(|error| BundleError::Malformed(error.to_string()))
    }
}

/// The payload, if enough keys of one role signed it.
fn opened(envelope: &Envelope, anchors: &Anchors) -> Result<(Vec<u8>, Vec<KeyId>, Role), BundleError> {
    let policy = envelope.open(&anchors.keys_for(Role::Policy), anchors.threshold);
    let refused = match policy {
        Ok((payload, signers)) => return Ok((payload, signers, Role::Policy)),
        // Keys of both roles: too few of the one, whatever the others say.
        Err(error @ EnvelopeError::Threshold { valid: 1.., .. }) => return Err(error.into()),
        Err(error) => error,
    };
    match envelope.open(&anchors.keys_for(Role::BreakGlass), anchors.break_glass_threshold) {
        Ok((payload, signers)) => Ok((payload, signers, Role::BreakGlass)),
        Err(_) => Err(refused.into()),
    }
}

fn check_statement(
    statement: &Statement,
    role: Role,
    anchors: &Anchors,
    object: &Digest,
    now: SystemTime,
) -> Result<(), BundleError> {
    match (role, statement.break_glass) {
        (Role::Policy, false) | (Role::BreakGlass, true) => {}
        (Role::Policy, true) => return Err(BundleError::Role { signed: "policy", is: "for break-glass" }),
        (Role::BreakGlass, false) => {
            return Err(BundleError::Role { signed: "break-glass", is: "an ordinary policy" });
        }
    }
    if anchors.policy.as_ref() != Some(&statement.policy) {
        return Err(BundleError::Policy {
            found: statement.policy.clone(),
            expected: anchors.policy.clone(),
        });
    }
    if let Some(not_after) = statement.not_after
        && !statement.holds_at(now)
    {
        return Err(BundleError::Expired { not_after });
    }
    if let Some(name) = &statement.ak_name
        && anchors.tpm.ak_name.as_ref() != Some(name)
    {
        return Err(BundleError::Machine { found: name.clone(), expected: anchors.tpm.ak_name.clone() });
    }
    match anchors.tpm.mode {
        TpmMode::Off if statement.no_tpm == NoTpm::Refuse => return Err(BundleError::NeedsTpm),
        TpmMode::Require if statement.bindings.is_empty() => return Err(BundleError::Unbound),
        TpmMode::Off | TpmMode::Require => {}
    }
    if !statement.objects.contains(object) {
        return Err(BundleError::Object { found: hex::encode(object) });
    }
    Ok(())
}

/// Compares every file with what was signed, and compiles just those bytes.
fn check_subjects(
    statement: &Statement,
    mut files: BTreeMap<String, PolicySource>,
    nothing_else: bool,
) -> Result<Vec<Candidate>, BundleError> {
    let signed: BTreeSet<&String> = statement.policies.keys().collect();
    if nothing_else && let Some(name) = files.keys().find(|name| !signed.contains(name)) {
        return Err(BundleError::Unsigned { name: name.clone() });
    }
    let mut sources = Vec::new();
    for (name, expected) in &statement.policies {
        let source = files.remove(name).ok_or_else(|| BundleError::Missing { name: name.clone() })?;
        let found: Digest = Sha256::digest(&source.bytes).into();
        if found != *expected {
            return Err(BundleError::Subject {
                name: name.clone(),
                found: hex::encode(found),
                expected: hex::encode(expected),
            });
        }
        sources.push(source);
    }
    let (mut candidates, mut mistakes) = (Vec::new(), Vec::new());
    for source in sources {
        match Candidate::compile(source) {
            Ok(candidate) => candidates.push(candidate),
            Err(error) => mistakes.push(error),
        }
    }
    if mistakes.is_empty() { Ok(candidates) } else { Err(BundleError::Mistakes(Mistakes::of(mistakes))) }
}

/// For messages: what the BPF object is called among the subjects.
pub const OBJECT: &str = OBJECT_NAME;
