//! What is signed: an in-toto statement that these policies, at this version, are for these platform states.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::approval::Digest;
use crate::measured::pcr::PcrValues;

/// in-toto's type of statements.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Type of what is said about the subjects.
const PREDICATE_TYPE: &str = "urn:enforcer:pcr-bound-policy:v1";
/// How the BPF object is called among the subjects.
pub const OBJECT_NAME: &str = "enforcer.bpf.o";
/// Bindings and subjects that a statement may have.
const MAX_BINDINGS: usize = 32;
const MAX_SUBJECTS: usize = 4096;

/// PCRs that a policy may be bound to.
///
/// Not 1, 3, 5 and 6: they hold what differs from machine to machine and boot to boot. Not 10: IMA extends it all the
/// time. Not 15: this program extends it. Not 16 to 23: user space can reset 16 and 23, and the others are for dynamic
/// launches.
pub const BINDABLE: [u8; 10] = [0, 2, 4, 7, 8, 9, 11, 12, 13, 14];

/// PCRs that a break-glass policy is bound to: Secure Boot's policy and nothing that an update changes.
pub const BREAK_GLASS_PCR: u8 = 7;

/// A platform state that a policy is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What people call it.
    pub label: String,
    /// The values, in the SHA-256 bank.
    pub pcrs: PcrValues,
}

/// Whether a machine may take the policy without a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoTpm {
    /// It may, if its anchors agree.
    Allow,
    /// It may not.
    Refuse,
}

/// What a bundle says about the seal, under which nobody but the daemon changes what is the enforcer's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seal {
    /// The machine is sealed once the bundle is in force.
    On,
    /// It is no longer.
    Off,
}

/// A statement whose parts are what they should be. Says nothing about who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Files by name, with the SHA-256 of each.
    pub policies: BTreeMap<String, Digest>,
    /// BPF objects that may enforce them: SHA-256 of each.
    pub objects: BTreeSet<Digest>,
    /// Which policy this is a version of.
    pub policy: String,
    /// Its version. Grows.
    pub version: u64,
    /// States it is for; any of them.
    pub bindings: Vec<Binding>,
    /// Without a TPM.
    pub no_tpm: NoTpm,
    /// Until when.
    pub not_after: Option<SystemTime>,
    /// The machine it is for, by its attestation key's Name in hexadecimal; every machine if not said.
    pub ak_name: Option<String>,
    /// Whether this is for emergencies.
    pub break_glass: bool,
    /// What becomes of the seal; if not said, what is stays.
    pub seal: Option<Seal>,
}

/// A statement that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not JSON of this form.
    #[error("the statement is malformed: {0}")]
    Malformed(String),
    /// A statement of another kind.
    #[error("it states {found:?}, not {expected:?}")]
    Kind {
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// Something in it cannot be.
    #[error("the statement cannot be used: {0}")]
    Unusable(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<WrittenSubject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: WrittenPredicate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSubject {
    name: String,
    digest: WrittenDigest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDigest {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenPredicate {
    policy: String,
    version: u64,
    bindings: Vec<WrittenBinding>,
    no_tpm: NoTpm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ak_name: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    break_glass: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<Seal>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBinding {
    label: String,
    bank: String,
    pcrs: PcrValues,
}

impl Statement {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        let written: Written =
            serde_json::from_slice(payload).map_err(|error| StatementError::Malformed(error.to_string()))?;
        for (found, expected) in [(&written.kind, STATEMENT_TYPE), (&written.predicate_type, PREDICATE_TYPE)]
        {
            if found != expected {
                return Err(StatementError::Kind { found: found.clone(), expected });
            }
        }
        let (policies, objects) = subjects(written.subject)?;
        let predicate = written.predicate;
        let statement = Self {
            policies,
            objects,
            policy: predicate.policy,
            version: predicate.version,
            bindings: predicate.bindings.into_iter().map(binding).collect::<Result<_, _>>()?,
            no_tpm: predicate.no_tpm,
            not_after: predicate.not_after.map(|text| time(&text)).transpose()?,
            ak_name: predicate.ak_name,
            break_glass: predicate.break_glass,
            seal: predicate.seal,
        };
        statement.check()?;
        Ok(statement)
    }

    /// As it is signed.
    ///
    /// # Errors
    /// [`StatementError::Unusable`] for what [`Self::parse`] would not take.
    pub fn to_payload(&self) -> Result<Vec<u8>, StatementError> {
        self.check()?;
        let subject = |name: &str, digest: &Digest| WrittenSubject {
            name: name.to_owned(),
            digest: WrittenDigest { sha256: hex::encode(digest) },
        };
        let policies = self.policies.iter().map(|(name, digest)| subject(name, digest));
        let objects = self.objects.iter().map(|digest| subject(OBJECT_NAME, digest));
        let written = Written {
            kind: STATEMENT_TYPE.into(),
            subject: policies.chain(objects).collect(),
            predicate_type: PREDICATE_TYPE.into(),
            predicate: WrittenPredicate {
                policy: self.policy.clone(),
                version: self.version,
                bindings: self.bindings.iter().map(written_binding).collect(),
                no_tpm: self.no_tpm,
                not_after: self.not_after.map(|time| humantime::format_rfc3339_seconds(time).to_string()),
                ak_name: self.ak_name.clone(),
                break_glass: self.break_glass,
                seal: self.seal,
            },
        };
        serde_json::to_vec(&written).map_err(|error| StatementError::Malformed(error.to_string()))
    }

    fn check(&self) -> Result<(), StatementError> {
        let unusable = |text: String| Err(StatementError::Unusable(text));
        if !is_identifier(&self.policy) {
            return unusable(format!("{:?} is no name for a policy", self.policy));
        }
        if self.version == 0 {
            return unusable("versions start at 1".into());
        }
        if self.policies.is_empty() || self.policies.len() + self.objects.len() > MAX_SUBJECTS {
            return unusable(format!("it has {} policies, not 1 to {MAX_SUBJECTS}", self.policies.len()));
        }
        if self.objects.is_empty() {
            return unusable(format!("it names no {OBJECT_NAME}, so any could enforce it"));
        }
        if self.bindings.len() > MAX_BINDINGS {
            return unusable(format!("it has {} bindings, more than {MAX_BINDINGS}", self.bindings.len()));
        }
        if self.bindings.is_empty() && self.no_tpm == NoTpm::Refuse {
            return unusable("it is for no platform state, and no machine without a TPM".into());
        }
        let labels: BTreeSet<&str> = self.bindings.iter().map(|binding| binding.label.as_str()).collect();
        if labels.len() != self.bindings.len() {
            return unusable("two bindings have the same label".into());
        }
        for binding in &self.bindings {
            if !is_identifier(&binding.label) {
                return unusable(format!("{:?} is no label for a binding", binding.label));
            }
            let numbers: Vec<u8> = binding.pcrs.iter().map(|(pcr, _)| pcr.number()).collect();
            if numbers.is_empty() {
                return unusable(format!("binding {} names no PCR", binding.label));
            }
            if let Some(number) = numbers.iter().find(|number| !BINDABLE.contains(number)) {
                return unusable(format!("binding {}: {}", binding.label, unbindable(*number)));
            }
            if self.break_glass && numbers != [BREAK_GLASS_PCR] {
                return unusable(format!("break-glass binds PCR {BREAK_GLASS_PCR} and no other"));
            }
        }
        if let Some(name) = &self.ak_name
            && !(name.len() == 68
                && name.starts_with("000b")
                && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return unusable(format!("{name:?} is no Name of a key"));
        }
        if self.break_glass
            && (self.ak_name.is_none() || self.not_after.is_none() || self.no_tpm == NoTpm::Allow)
        {
            return unusable("break-glass is for one machine with a TPM, until a certain time".into());
        }
        // It ends by itself, and the seal would not end with it.
        if self.break_glass && self.seal == Some(Seal::On) {
            return unusable("break-glass does not seal".into());
        }
        Ok(())
    }

    /// Whether it holds at this time.
    #[must_use]
    pub fn holds_at(&self, now: SystemTime) -> bool {
        self.not_after.is_none_or(|end| now <= end)
    }
}

/// Why a PCR cannot be bound to.
#[must_use]
pub fn unbindable(number: u8) -> String {
    let why = match number {
        1 | 3 | 5 | 6 => "differs between equal machines, or between boots",
        10 => "is extended by IMA all the time",
        15 => "is extended by this program itself",
        16 | 23 => "can be reset by anybody",
        _ => "is not for boots of the platform",
    };
    format!("PCR {number} {why}; bind to some of {BINDABLE:?}")
}

/// Names of policies and bindings: short, and harmless wherever they are printed.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with(['.', '-'])
}

/// Names of policy files: in the bundle's own directory.
fn is_file_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with('.')
        && !text.bytes().any(|byte| byte == b'/' || byte.is_ascii_control())
}

fn subjects(
    written: Vec<WrittenSubject>,
) -> Result<(BTreeMap<String, Digest>, BTreeSet<Digest>), StatementError> {
    let (mut policies, mut objects) = (BTreeMap::new(), BTreeSet::new());
    for subject in written {
        let digest = digest(&subject.digest.sha256)?;
        if subject.name == OBJECT_NAME {
            objects.insert(digest);
        } else if !is_file_name(&subject.name) {
            return Err(StatementError::Unusable(format!("{:?} is no name of a policy file", subject.name)));
        } else if let Some(twice) = policies.insert(subject.name.clone(), digest) {
            let text = format!("{} is stated twice, once as {}", subject.name, hex::encode(twice));
            return Err(StatementError::Unusable(text));
        }
    }
    Ok((policies, objects))
}

fn digest(text: &str) -> Result<Digest, StatementError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|error| StatementError::Unusable(format!("{text:?} is no SHA-256: {error}")))?;
    Ok(digest)
}

fn binding(written: WrittenBinding) -> Result<Binding, StatementError> {
    if written.bank != "sha256" {
        let text = format!("binding {}: bank {:?} is not \"sha256\"", written.label, written.bank);
        return Err(StatementError::Unusable(text));
    }
    Ok(Binding { label: written.label, pcrs: written.pcrs })
}

fn written_binding(binding: &Binding) -> WrittenBinding {
    WrittenBinding { label: binding.label.clone(), bank: "sha256".into(), pcrs: binding.pcrs.clone() }
}

fn time(text: &str) -> Result<SystemTime, StatementError> {
    let wrong = |why: String| StatementError::Unusable(format!("{text:?} is no time (RFC 3339, UTC): {why}"));
    let time = humantime::parse_rfc3339(text).map_err(|error| wrong(error.to_string()))?;
    // As it is written by this program, so that it is read as what it was.
    let whole = time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.subsec_nanos() == 0);
    if whole { Ok(time) } else { Err(wrong("whole seconds only".into())) }
}
