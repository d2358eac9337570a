//! One record, and its form in the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measured::pcr::{PcrIndex, PcrValue};
use crate::measured::sequence::{END, START};

/// Marks records of ours; systemd's own say `systemd`.
pub const CONTENT_TYPE: &str = "enforcer";

const HASH: &str = "sha256";

/// What was measured once. Holding one means that its digest is that of its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    pcr: PcrIndex,
    digests: [RecordDigest; 1],
    content_type: String,
    content: Content,
}

/// The digest that was extended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RecordDigest {
    /// `sha256`.
    pub hash_alg: String,
    /// The digest.
    pub digest: PcrValue,
}

/// What the digest is of, and what else is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The text that was measured.
    pub string: String,
    /// Not measured: for people only, such as when it was.
    #[serde(flatten)]
    pub remarks: BTreeMap<String, Value>,
}

/// A record as it was read, nothing checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    pcr: PcrIndex,
    digests: Vec<RecordDigest>,
    content_type: String,
    content: Content,
}

impl Record {
    /// A measurement of this text into this PCR.
    #[must_use]
    pub fn new(pcr: PcrIndex, text: impl Into<String>) -> Self {
        let string = text.into();
        let digest = PcrValue::digest_of(string.as_bytes());
        Self {
            pcr,
            digests: [RecordDigest { hash_alg: HASH.to_owned(), digest }],
            content_type: CONTENT_TYPE.to_owned(),
            content: Content { string, remarks: BTreeMap::new() },
        }
    }

    /// The same with a remark, which is not measured. `string` is no remark: it would be what is measured.
    #[must_use]
    pub fn with_remark(mut self, name: &str, value: impl Into<Value>) -> Self {
        if name != "string" {
            self.content.remarks.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Into which PCR.
    #[must_use]
    pub const fn pcr(&self) -> PcrIndex {
        self.pcr
    }

    /// What the PCR is extended with.
    #[must_use]
    pub const fn digest(&self) -> PcrValue {
        self.digests[0].digest
    }

    /// What was measured.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.content.string
    }

    /// What is not measured.
    #[must_use]
    pub const fn remarks(&self) -> &BTreeMap<String, Value> {
        &self.content.remarks
    }

    /// The record in the log: mark, JSON, line feed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and maps with text keys always are JSON.
        let json = serde_json::to_vec(self).unwrap_or_default();
        [&[START], json.as_slice(), &[END]].concat()
    }

    /// Reads the JSON of a record and computes its digest anew.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let read: Unchecked = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if read.content_type != CONTENT_TYPE {
            return Err(format!("a record of content type `{}`, not `{CONTENT_TYPE}`", read.content_type));
        }
        let digests = <[RecordDigest; 1]>::try_from(read.digests).ok();
        let digests = digests.filter(|[only]| only.hash_alg == HASH);
        let digests = digests.ok_or("a record has a SHA-256 digest and no other")?;
        if PcrValue::digest_of(read.content.string.as_bytes()) != digests[0].digest {
            return Err("the text does not hash to the digest".to_owned());
        }
        Ok(Self { pcr: read.pcr, digests, content_type: read.content_type, content: read.content })
    }
}
