//! What this machine trusts: `anchors.toml`, which only root can write.
//!
//! It is the one input that nobody signs. It names the keys, says what the TPM has to prove, and consents to what is less
//! than that. Its own digest is measured, so a verifier elsewhere sees which anchors a machine has.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    approval::{Digest, SlotPlan},
    key::PublicKey,
    statement::{BINDABLE, is_identifier},
};
use crate::{measured::pcr::PcrIndex, tpm::Tcti};

/// Where it lies unless it is said otherwise.
pub const ANCHORS: &str = "/etc/enforcer/anchors.toml";

/// No anchors are longer.
const MAX_BYTES: u64 = 1 << 18;

/// NV index of the slot, unless the anchors say another: in the owner's range (TCG registry of reserved TPM 2.0 handles).
pub const DEFAULT_SLOT: u32 = 0x0180_0e10;
/// NV index of the break-glass slot.
pub const DEFAULT_BREAK_GLASS_SLOT: u32 = 0x0180_0e11;

/// What a machine trusts.
#[derive(Clone, Debug)]
pub struct Anchors {
    /// The policy that this machine takes versions of. `None`: it takes no signed policy.
    pub policy: Option<String>,
    /// How many policy keys have to sign.
    pub threshold: usize,
    /// How many break-glass keys have to sign.
    pub break_glass_threshold: usize,
    /// The keys, by name.
    pub keys: BTreeMap<String, Key>,
    /// Whether policies that nobody signed are taken, if whoever runs the command says so, too.
    pub unsigned: Consent,
    /// What to do when what should be in force is refused.
    pub on_refuse: OnRefuse,
    /// What the TPM has to prove.
    pub tpm: TpmAnchors,
    /// SHA-256 of the file.
    pub digest: Digest,
}

/// A key and what it may sign.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key.
    pub public: PublicKey,
    /// What for.
    pub role: Role,
}

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Policies.
    Policy,
    /// Break-glass policies.
    BreakGlass,
}

/// Consent to something less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// Given.
    Allow,
    /// Not given.
    #[default]
    Refuse,
}

/// Whether there has to be a TPM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TpmMode {
    /// There has to be. It is never found out to be unnecessary.
    #[default]
    Require,
    /// Policies that say `noTpm` themselves are taken on their signatures alone.
    Off,
}

/// What to do when what should be in force is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefuse {
    /// Keep what was admitted last.
    #[default]
    LastGood,
    /// Deny everything to every workload.
    DenyAll,
}

/// What the TPM has to prove.
#[derive(Clone, Debug)]
pub struct TpmAnchors {
    /// Whether there has to be one.
    pub mode: TpmMode,
    /// How to reach it, `device:/dev/tpmrm0`.
    pub tcti: Tcti,
    /// The key that approves what is written to the slots.
    pub slot_key: Option<PublicKey>,
    /// Its approvals of the first, empty record of the slot and of the break-glass slot; DER.
    pub genesis: Option<[Vec<u8>; 2]>,
    /// SHA-256 of the endorsement key's public area, in hexadecimal.
    pub ek_sha256: Option<String>,
    /// Name of the attestation key, in hexadecimal.
    pub ak_name: Option<String>,
    /// SHA-256 of the maker's certificate for the endorsement key, in hexadecimal, as enrolment found it. For people, and
    /// those who keep lists of TPMs: what is compared with is the key itself.
    pub ek_certificate_sha256: Option<String>,
    /// Who issued it, as it says. Whether that was verified, whoever enrolled knows.
    pub ek_certificate_issuer: Option<String>,
    /// NV index of the slot.
    pub slot: u32,
    /// NV index of the break-glass slot.
    pub break_glass_slot: u32,
    /// What is extended with what was admitted.
    pub measure_pcr: PcrIndex,
}

impl TpmAnchors {
    /// The slot for policies or the one for break-glass policies.
    #[must_use]
    pub fn plan(&self, break_glass: bool) -> Option<SlotPlan> {
        let index = if break_glass { self.break_glass_slot } else { self.slot };
        self.slot_key.as_ref().map(|key| SlotPlan::new(index, key))
    }
}

/// Anchors that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnchorsError {
    /// The file cannot be read.
    #[error("cannot read the anchors {}: {source}; make them with `enforcer anchors`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than root could have written it.
    #[error("the anchors {} could be written by others than root: {why}", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// What is wrong with its owner or mode.
        why: String,
    },
    /// Not TOML of this form.
    #[error("{}", malformed(path, reason))]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// It does not make sense; every reason.
    #[error("{}", unusable(path, reasons))]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why not.
        reasons: Vec<String>,
    },
}

fn malformed(path: &Path, reason: &str) -> String {
    format!("the anchors {} are malformed: {}", path.display(), reason.trim_end())
}

fn unusable(path: &Path, reasons: &[String]) -> String {
    format!("the anchors {} cannot be used: {}", path.display(), reasons.join("; "))
}

/// The file as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// See [`Anchors::policy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// See [`Anchors::threshold`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<usize>,
    /// See [`Anchors::break_glass_threshold`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass_threshold: Option<usize>,
    /// See [`Anchors::on_refuse`].
    #[serde(default)]
    pub on_refuse: OnRefuse,
    /// See [`Anchors::unsigned`].
    #[serde(default)]
    pub unsigned: Consent,
    /// See [`Anchors::keys`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, WrittenKey>,
    /// See [`Anchors::tpm`].
    #[serde(default)]
    pub tpm: WrittenTpm,
}

/// A key as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenKey {
    /// See [`Key::role`].
    pub role: Role,
    /// PEM.
    pub public: String,
}

/// See [`TpmAnchors`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in TpmAnchors")]
pub struct WrittenTpm {
    #[serde(default)]
    pub mode: TpmMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass_slot: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure_pcr: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ak_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certificate_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_certificate_issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<[String; 2]>,
}

impl Anchors {
    /// Reads the file. It must be root's, and so must its directory: who can rename it can replace it.
    ///
    /// # Errors
    /// [`AnchorsError`].
    pub fn read(path: &Path) -> Result<Self, AnchorsError> {
        let failed = |source| AnchorsError::Read { path: path.to_owned(), source };
        // The very file that is read is the one that is looked at.
        let file = File::open(path).map_err(failed)?;
        refuse_exposed(path, &file.metadata().map_err(failed)?)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(directory) = directory {
            refuse_exposed(directory, &fs::metadata(directory).map_err(failed)?)?;
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text, path)
    }

    /// Reads text that came from `path`.
    ///
    /// # Errors
    /// [`AnchorsError::Malformed`], [`AnchorsError::Unusable`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, AnchorsError> {
        let written: Written = toml::from_str(text)
            .map_err(|error| AnchorsError::Malformed { path: path.to_owned(), reason: error.to_string() })?;
        let mut wrong = Vec::new();
        let anchors = Self::of(written, Sha256::digest(text.as_bytes()).into(), &mut wrong);
        anchors.check(&mut wrong);
        if wrong.is_empty() {
            Ok(anchors)
        } else {
            Err(AnchorsError::Unusable { path: path.to_owned(), reasons: wrong })
        }
    }

    fn of(written: Written, digest: Digest, wrong: &mut Vec<String>) -> Self {
        let mut keys = BTreeMap::new();
        for (name, key) in written.keys {
            match PublicKey::from_pem(&key.public) {
                Ok(public) => {
                    keys.insert(name, Key { public, role: key.role });
                }
                Err(error) => wrong.push(format!("key {name}: {error}")),
            }
        }
        let tpm = written.tpm;
        let slot_key = tpm.slot_key.as_deref().map(PublicKey::from_pem).transpose();
        let genesis = tpm.genesis.map(|texts| texts.map(|text| BASE64.decode(text)));
        let genesis = match genesis {
            None => None,
            Some([Ok(slot), Ok(break_glass)]) => Some([slot, break_glass]),
            Some(_) => {
                wrong.push("tpm.genesis is not base64".into());
                None
            }
        };
        let measure_pcr = PcrIndex::try_from(tpm.measure_pcr.unwrap_or(15)).unwrap_or_else(|error| {
            wrong.push(format!("tpm.measure_pcr: {error}"));
            PcrIndex::SYSTEM
        });
        Self {
            policy: written.policy,
            threshold: written.threshold.unwrap_or(1),
            break_glass_threshold: written.break_glass_threshold.unwrap_or(1),
            keys,
            unsigned: written.unsigned,
            on_refuse: written.on_refuse,
            tpm: TpmAnchors {
                mode: tpm.mode,
                tcti: match tpm.tcti.as_deref().map(str::parse) {
                    None => Tcti::first_device(),
                    Some(Ok(tcti)) => tcti,
                    Some(Err(error)) => {
                        wrong.push(format!("tpm.tcti: {error}"));
                        Tcti::first_device()
                    }
                },
                slot_key: slot_key.unwrap_or_else(|error| {
                    wrong.push(format!("tpm.slot_key: {error}"));
                    None
                }),
                genesis,
                ek_sha256: tpm.ek_sha256,
                ak_name: tpm.ak_name,
                ek_certificate_sha256: tpm.ek_certificate_sha256,
                ek_certificate_issuer: tpm.ek_certificate_issuer,
                slot: tpm.slot.unwrap_or(DEFAULT_SLOT),
                break_glass_slot: tpm.break_glass_slot.unwrap_or(DEFAULT_BREAK_GLASS_SLOT),
                measure_pcr,
            },
            digest,
        }
    }

    fn check(&self, wrong: &mut Vec<String>) {
        match &self.policy {
            Some(policy) if !is_identifier(policy) => {
                wrong.push(format!("{policy:?} is no name for a policy"))
            }
            None if !self.keys.is_empty() => {
                wrong
                    .push("there are keys, but `policy` does not say which policy this machine takes".into());
            }
            _ => {}
        }
        for (role, threshold, name) in [
            (Role::Policy, self.threshold, "threshold"),
            (Role::BreakGlass, self.break_glass_threshold, "break_glass_threshold"),
        ] {
            let keys = self.keys_for(role);
            if threshold == 0 {
                wrong.push(format!("{name} is 0, so nobody would have to sign"));
            } else if !keys.is_empty() && threshold > keys.len() {
                wrong.push(format!("{name} is {threshold}, but there are {} such keys", keys.len()));
            }
        }
        let mut ids: Vec<_> = self.keys.values().map(|key| key.public.id()).collect();
        ids.sort();
        let count = ids.len();
        ids.dedup();
        if ids.len() != count {
            wrong.push("the same key is there twice: it would count twice, or sign for two roles".into());
        }
        if self.keys_for(Role::Policy).is_empty() && !self.keys.is_empty() {
            wrong.push("no key has the role \"policy\"".into());
        }
        let tpm = &self.tpm;
        for (name, text, length) in [
            ("ek_sha256", &tpm.ek_sha256, 64),
            ("ak_name", &tpm.ak_name, 68),
            ("ek_certificate_sha256", &tpm.ek_certificate_sha256, 64),
        ] {
            let hexadecimal = |text: &String| {
                text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            };
            if !text.as_ref().is_none_or(hexadecimal) {
                wrong.push(format!(
                    "tpm.{name} is not {length} hexadecimal digits; `enforcer tpm enroll` prints it"
                ));
            }
        }
        for (name, index) in [("slot", tpm.slot), ("break_glass_slot", tpm.break_glass_slot)] {
            if index >> 24 != 1 {
                wrong.push(format!(
                    "tpm.{name} is {index:#x}, which is no NV index (0x01000000 to 0x01ffffff)"
                ));
            }
        }
        if tpm.slot == tpm.break_glass_slot {
            wrong.push("tpm.slot and tpm.break_glass_slot are the same index".into());
        }
        if matches!(tpm.measure_pcr.number(), 16..=23) {
            wrong.push(format!(
                "tpm.measure_pcr is {}, which user space can reset: what was measured could be made unseen",
                tpm.measure_pcr
            ));
        } else if BINDABLE.contains(&tpm.measure_pcr.number()) && tpm.measure_pcr.number() < 12 {
            wrong.push(format!(
                "tpm.measure_pcr is {}, which policies are bound to; 15 is usual",
                tpm.measure_pcr
            ));
        }
        if tpm.mode == TpmMode::Require && !self.keys.is_empty() && tpm.slot_key.is_none() {
            wrong.push("tpm.mode is \"require\", but tpm.slot_key is missing".into());
        }
    }

    /// The keys that may sign this.
    #[must_use]
    pub fn keys_for(&self, role: Role) -> Vec<&PublicKey> {
        self.keys.values().filter(|key| key.role == role).map(|key| &key.public).collect()
    }
}

fn refuse_exposed(path: &Path, metadata: &fs::Metadata) -> Result<(), AnchorsError> {
    let mut why = Vec::new();
    // Whoever runs this can have it do anything as it is.
    if metadata.uid() != 0 && metadata.uid() != crate::sys::effective_user() {
        why.push(format!("it belongs to user {}", metadata.uid()));
    }
    // A directory in which only owners may rename, as /tmp, is no worse than its owner.
    let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
    if metadata.mode() & 0o022 != 0 && !sticky {
        why.push(format!("its mode is {:04o}; `chmod go-w` it", metadata.mode() & 0o7777));
    }
    if why.is_empty() {
        return Ok(());
    }
    Err(AnchorsError::Exposed { path: path.to_owned(), why: why.join(", ") })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::bundle::key::SecretKey;

    fn parse(text: &str) -> Result<Anchors, AnchorsError> {
        Anchors::parse(text, Path::new("anchors.toml"))
    }

    fn key(name: &str, role: &str) -> String {
        let pem = SecretKey::generate().unwrap().public().to_pem().unwrap();
        format!("[keys.{name}]\nrole = \"{role}\"\npublic = \"\"\"\n{pem}\"\"\"\n")
    }

    #[test]
    fn the_least_consents_to_nothing() {
        let anchors = parse("").unwrap();
        assert_eq!((anchors.unsigned, anchors.on_refuse), (Consent::Refuse, OnRefuse::LastGood));
        assert_eq!(anchors.tpm.mode, TpmMode::Require);
        assert!(anchors.keys.is_empty() && anchors.policy.is_none());
        assert_eq!(anchors.tpm.tcti, Tcti::first_device());
        assert_eq!(parse("unsigned = \"allow\"").unwrap().unsigned, Consent::Allow);
    }

    #[test]
    fn keys_have_roles() {
        let slot_key = SecretKey::generate().unwrap().public().to_pem().unwrap();
        let text = format!(
            "policy = \"web\"\nthreshold = 2\n{}{}{}[tpm]\nslot_key = \"\"\"\n{slot_key}\"\"\"\n",
            key("ops", "policy"),
            key("sec", "policy"),
            key("oncall", "break-glass")
        );
        let anchors = parse(&text).unwrap();
        assert_eq!(anchors.keys_for(Role::Policy).len(), 2);
        assert_eq!(anchors.keys_for(Role::BreakGlass), [&anchors.keys["oncall"].public]);
        assert_ne!(anchors.tpm.plan(false).unwrap().name(true), anchors.tpm.plan(true).unwrap().name(true));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let one = key("one", "policy");
        let twin = one.replace("[keys.one]", "[keys.twin]");
        let text = format!(
            "threshold = 0\nbreak_glass_threshold = 2\n{one}{twin}{}[tpm]\nek_sha256 = \"xyz\"\nslot = 5\n\
             measure_pcr = 16\n",
            key("glass", "break-glass")
        );
        let error = parse(&text).unwrap_err().to_string();
        for part in [
            "`policy` does not say",
            "threshold is 0",
            "break_glass_threshold is 2, but there are 1",
            "the same key is there twice",
            "tpm.ek_sha256",
            "tpm.slot is 0x5",
            "which user space can reset",
            "tpm.slot_key is missing",
        ] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert!(matches!(parse("polixy = 1"), Err(AnchorsError::Malformed { .. })));
    }

    #[test]
    fn what_others_could_have_written_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("anchors.toml");
        assert!(matches!(Anchors::read(&path), Err(AnchorsError::Read { .. })));
        fs::write(&path, "unsigned = \"allow\"\n").unwrap();
        let with_modes = |file: u32, parent: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(file)).unwrap();
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(parent)).unwrap();
            Anchors::read(&path)
        };
        assert!(with_modes(0o644, 0o755).is_ok());
        assert!(matches!(with_modes(0o664, 0o755), Err(AnchorsError::Exposed { .. })));
        assert!(matches!(with_modes(0o644, 0o777), Err(AnchorsError::Exposed { .. })));
        assert!(with_modes(0o644, 0o1777).is_ok());
    }
}
