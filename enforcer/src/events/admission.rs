//! Events about the policies themselves: admitted, refused, and alarms about the platform they are bound to.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{record::SCHEMA_VERSION, time::rfc3339};
use crate::admission::Report;

/// One line of kind `admission`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionRecord {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// RFC 3339, UTC.
    pub time: String,
    /// What it came to.
    pub result: AdmissionResult,
    /// What it was about: `start`, `reload`, `apply` or `recheck`.
    pub occasion: String,
    /// Why it was refused, or what is alarming: a word that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is in force now.
    pub consequence: Consequence,
    /// What was admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<AdmittedRecord>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdmissionResult {
    /// It may be installed.
    Admitted,
    /// It may not.
    Refused,
    /// The platform is not any more what policies were admitted for.
    Alarm,
}

/// What is in force after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consequence {
    /// What was admitted.
    InForce,
    /// What was in force before.
    Unchanged,
    /// What was admitted last.
    LastGood,
    /// Nothing is allowed to any workload.
    DenyAll,
    /// Nothing: there was nothing before.
    Nothing,
}

/// What was admitted, and on what grounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmittedRecord {
    /// `signed`, `signed-without-tpm`, `break-glass`.
    pub trust: String,
    /// The policy.
    pub policy: String,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its statement.
    pub statement: String,
    /// The platform state that holds.
    pub state: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Whether it had been admitted before.
    pub already_active: bool,
    /// What was extended into the PCR this time.
    pub measured: Vec<String>,
}

impl AdmissionRecord {
    /// Something was admitted.
    #[must_use]
    pub fn admitted(occasion: &str, report: &Report) -> Self {
        let grounds = report.trust.grounds();
        Self {
            admitted: Some(AdmittedRecord {
                trust: report.trust.word().into(),
                policy: grounds.map(|grounds| grounds.policy.clone()).unwrap_or_default(),
                version: report.record.version,
                statement: hex::encode(report.record.statement),
                state: grounds.and_then(|grounds| grounds.binding.clone()),
                not_after: report.not_after.map(|time| humantime::format_rfc3339_seconds(time).to_string()),
                already_active: report.already_active,
                measured: report.measured.clone(),
            }),
            ..Self::new(AdmissionResult::Admitted, occasion, Consequence::InForce)
        }
    }

    /// Something was refused.
    #[must_use]
    pub fn refused(occasion: &str, reason: &str, message: String, consequence: Consequence) -> Self {
        Self {
            reason: Some(reason.into()),
            message: Some(message),
            ..Self::new(AdmissionResult::Refused, occasion, consequence)
        }
    }

    /// The platform changed under what is in force.
    #[must_use]
    pub fn alarm(reason: &str, message: String, consequence: Consequence) -> Self {
        Self {
            reason: Some(reason.into()),
            message: Some(message),
            ..Self::new(AdmissionResult::Alarm, "recheck", consequence)
        }
    }

    fn new(result: AdmissionResult, occasion: &str, consequence: Consequence) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            time: rfc3339(SystemTime::now()),
            result,
            occasion: occasion.into(),
            reason: None,
            message: None,
            consequence,
            admitted: None,
        }
    }

    /// One line for people.
    #[must_use]
    pub fn compact(&self) -> String {
        let result = match self.result {
            AdmissionResult::Admitted => "admitted",
            AdmissionResult::Refused => "refused ",
            AdmissionResult::Alarm => "ALARM   ",
        };
        let mut text = format!("{}  {result} {}", self.time, self.occasion);
        if let Some(admitted) = &self.admitted {
            text.push_str(&format!("  {} {} version {}", admitted.trust, admitted.policy, admitted.version));
            if let Some(state) = &admitted.state {
                text.push_str(&format!(", state {state}"));
            }
        }
        if let (Some(reason), Some(message)) = (&self.reason, &self.message) {
            text.push_str(&format!("  ({reason}) {}", message.lines().next().unwrap_or_default()));
        }
        text
    }
}
