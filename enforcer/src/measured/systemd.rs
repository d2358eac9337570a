//! What systemd measured in user space: `/run/log/systemd/tpm2-measure.log`, in which it says what it extended PCRs with.
//!
//! Nobody vouches for this file. What it says counts only where its digests lead to a PCR's value, and only as far as a
//! text hashes to its digest: systemd logs other words than it measured for secrets (volume keys) and for texts that are
//! long or have unusual characters. A [`SystemdRecord`] says which it is.
//!
//! The format is that of `super::own`, with more: records of several banks, of NV indices instead of PCRs, and fields that
//! newer versions add.

use serde::Deserialize;

use super::{
    pcr::{PcrIndex, PcrValue},
    sequence::{NO_START, texts},
};

/// Where it is.
pub const SYSTEMD_LOG: &str = "/run/log/systemd/tpm2-measure.log";

/// Longer logs are refused: systemd writes some dozens of records a boot.
pub const MAX_BYTES: usize = 4 << 20;

/// One measurement into the SHA-256 bank of a PCR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemdRecord {
    /// The PCR.
    pub pcr: PcrIndex,
    /// What it was extended with.
    pub digest: PcrValue,
    /// What systemd says that it measured.
    pub text: String,
    /// Whether the digest is that of the text.
    pub is_proved: bool,
}

/// Why the log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SystemdLogError {
    /// A record is broken.
    #[error("systemd's measurement log is broken at byte {offset}: {why}")]
    Broken {
        /// Where.
        offset: usize,
        /// What about it.
        why: String,
    },
    /// More than systemd ever writes.
    #[error("systemd's measurement log has more than {MAX_BYTES} bytes")]
    TooLong,
}

/// A record as it was read.
#[derive(Deserialize)]
struct Unchecked {
    pcr: Option<PcrIndex>,
    digests: Vec<UncheckedDigest>,
    content_type: String,
    #[serde(default)]
    content: UncheckedContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UncheckedDigest {
    hash_alg: String,
    digest: String,
}

#[derive(Default, Deserialize)]
struct UncheckedContent {
    #[serde(default)]
    string: String,
}

/// Reads the log: all measurements into PCRs, in their order.
///
/// # Errors
/// [`SystemdLogError`].
pub fn parse(bytes: &[u8]) -> Result<Vec<SystemdRecord>, SystemdLogError> {
    if bytes.len() > MAX_BYTES {
        return Err(SystemdLogError::TooLong);
    }
    let mut records = Vec::new();
    for (offset, json) in texts(bytes) {
        let broken = |why: &str| SystemdLogError::Broken { offset, why: why.to_owned() };
        let json = json.ok_or_else(|| broken(NO_START))?;
        let read: Unchecked = serde_json::from_slice(json).map_err(|error| broken(&error.to_string()))?;
        if read.content_type != "systemd" {
            return Err(broken("a record is not systemd's"));
        }
        // Registers in NV memory are not quoted.
        let Some(pcr) = read.pcr else { continue };
        let sha256 = read.digests.iter().find(|digest| digest.hash_alg == "sha256");
        let digest = sha256.and_then(|digest| digest.digest.parse().ok());
        let digest: PcrValue = digest.ok_or_else(|| broken("a record has no SHA-256 digest"))?;
        let is_proved = PcrValue::digest_of(read.content.string.as_bytes()) == digest;
        records.push(SystemdRecord { pcr, digest, text: read.content.string, is_proved });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(pcr: &str, text: &str, digest: PcrValue) -> String {
        format!(
            "\u{1e}{{{pcr}\"digests\":[{{\"hashAlg\":\"sha1\",\"digest\":\"{}\"}},{{\"hashAlg\":\"sha256\",\"digest\":\"{digest}\"}}],\
             \"content_type\":\"systemd\",\"content\":{{\"string\":{text:?},\"bootId\":\"b0\",\"timestamp\":7,\
             \"eventType\":\"machine-id\"}}}}\n",
            "11".repeat(20)
        )
    }

    #[test]
    fn texts_are_proved_by_their_digests() {
        let machine_id = "machine-id:53726c3e8cd745bbae10e71af34bd7ac";
        let log = [
            record("\"pcr\":15,", machine_id, PcrValue::digest_of(machine_id.as_bytes())),
            record("\"nv_index\":30474752,", "product-id", PcrValue::digest_of(b"product-id")),
            record("\"pcr\":15,", "cryptsetup:root:uuid", PcrValue([7; 32])),
        ]
        .concat();
        let records = parse(log.as_bytes()).unwrap();
        let found: Vec<_> =
            records.iter().map(|it| (it.pcr.number(), it.text.as_str(), it.is_proved)).collect();
        assert_eq!(found, [(15, machine_id, true), (15, "cryptsetup:root:uuid", false)]);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn anything_else_is_broken_and_says_where() {
        let whole = record("\"pcr\":15,", "x", PcrValue::digest_of(b"x"));
        for (text, at, why) in [
            (whole.replace('\u{1e}', ""), 0, "does not start here"),
            (whole.clone() + "\u{1e}{\n", whole.len(), "EOF"),
            (whole.replace("\"systemd\"", "\"enforcer\""), 0, "not systemd's"),
            (whole.replace("sha256", "sha384"), 0, "no SHA-256"),
            (whole.replace("\"pcr\":15", "\"pcr\":24"), 0, "PCR"),
        ] {
            match parse(text.as_bytes()) {
                Err(SystemdLogError::Broken { offset, why: found }) => {
                    assert_eq!(offset, at, "{found}");
                    assert!(found.contains(why), "{found}");
                }
                other => panic!("{text} gave {other:?}"),
            }
        }
        assert_eq!(parse(&vec![0; MAX_BYTES + 1]), Err(SystemdLogError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_log_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
