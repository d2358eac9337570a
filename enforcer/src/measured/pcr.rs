//! Platform configuration registers of the SHA-256 bank: their numbers, their values, how they change.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::policy::digest::{ContentDigest, DigestError};

/// Number of a register, 0 to 23. Holding one means the number exists, not that anything was measured into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u8")]
pub struct PcrIndex(u8);

/// Why something is no register's number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no PCR: they are numbered from 0 to 23")]
pub struct PcrIndexError(String);

impl PcrIndex {
    /// How many there are.
    pub const COUNT: u8 = 24;
    /// Firmware code.
    pub const FIRMWARE: Self = Self(0);
    /// Boot loaders and kernels that the firmware started.
    pub const BOOT_APPLICATIONS: Self = Self(4);
    /// Secure Boot: whether it is on, and its keys.
    pub const SECURE_BOOT: Self = Self(7);
    /// What GRUB and the kernel's EFI stub load.
    pub const KERNEL_INPUTS: Self = Self(9);
    /// Unified kernel image, and how far user space has come.
    pub const UNIFIED_KERNEL: Self = Self(11);
    /// Extended by user space for the system it is; where our own measurements go.
    pub const SYSTEM: Self = Self(15);

    /// The register with this number.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// What it holds after a reset, before anything is measured. Those for dynamic launch (17 to 22) say "never
    /// launched" with ones.
    #[must_use]
    pub const fn start(self) -> PcrValue {
        PcrValue(if self.0 >= 17 && self.0 <= 22 { [0xff; 32] } else { [0; 32] })
    }
}

impl TryFrom<u32> for PcrIndex {
    type Error = PcrIndexError;

    fn try_from(number: u32) -> Result<Self, PcrIndexError> {
        let index = u8::try_from(number).ok().and_then(Self::new);
        index.ok_or_else(|| PcrIndexError(number.to_string()))
    }
}

impl From<PcrIndex> for u8 {
    fn from(index: PcrIndex) -> Self {
        index.0
    }
}

impl FromStr for PcrIndex {
    type Err = PcrIndexError;

    /// A decimal number as people write it: no sign, no zeros in front.
    fn from_str(text: &str) -> Result<Self, PcrIndexError> {
        let index = text.parse().ok().and_then(Self::new).filter(|index| index.to_string() == text);
        index.ok_or_else(|| PcrIndexError(text.to_owned()))
    }
}

impl fmt::Display for PcrIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a register of the SHA-256 bank holds, and likewise a SHA-256 digest that is measured into one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrValue(pub [u8; 32]);

impl PcrValue {
    /// The SHA-256 of these bytes.
    #[must_use]
    pub fn digest_of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// What a register holds after a digest was measured into it.
#[must_use]
pub fn extend(old: PcrValue, digest: PcrValue) -> PcrValue {
    PcrValue(Sha256::new().chain_update(old.0).chain_update(digest.0).finalize().into())
}

impl FromStr for PcrValue {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(|ContentDigest(bytes)| Self(bytes))
    }
}

impl fmt::Display for PcrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PcrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PcrValue({self})")
    }
}

impl Serialize for PcrValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PcrValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Registers and what they hold. Written as a map from number to hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcrValues(BTreeMap<PcrIndex, PcrValue>);

impl PcrValues {
    /// What a register holds, if it is among them.
    #[must_use]
    pub fn get(&self, index: PcrIndex) -> Option<PcrValue> {
        self.0.get(&index).copied()
    }

    /// Sets one; what it was before, if anything.
    pub fn insert(&mut self, index: PcrIndex, value: PcrValue) -> Option<PcrValue> {
        self.0.insert(index, value)
    }

    /// All of them, lowest number first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (PcrIndex, PcrValue)> + '_ {
        self.0.iter().map(|(index, value)| (*index, *value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only these registers. `None` if one of them is not here: a selection that silently shrinks proves less than
    /// it says.
    #[must_use]
    pub fn select(&self, indices: impl IntoIterator<Item = PcrIndex>) -> Option<Self> {
        indices.into_iter().map(|index| Some((index, self.get(index)?))).collect::<Option<_>>().map(Self)
    }

    /// The digest over all values in the order of their numbers: what a quote signs and `TPM2_PolicyPCR` asks for.
    #[must_use]
    pub fn composite(&self) -> PcrValue {
        let hash = self.0.values().fold(Sha256::new(), |hash, value| hash.chain_update(value.0));
        PcrValue(hash.finalize().into())
    }
}

impl FromIterator<(PcrIndex, PcrValue)> for PcrValues {
    fn from_iter<I: IntoIterator<Item = (PcrIndex, PcrValue)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl Serialize for PcrValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(index, value)| (index.to_string(), value)))
    }
}

impl<'de> Deserialize<'de> for PcrValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PcrValuesVisitor)
    }
}

/// Reads the map itself, because a derived one would let the last of two values for one register win.
struct PcrValuesVisitor;

impl<'de> de::Visitor<'de> for PcrValuesVisitor {
    type Value = PcrValues;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from PCR numbers to SHA-256 values")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<PcrValues, A::Error> {
        let mut values = PcrValues::default();
        while let Some((name, value)) = map.next_entry::<String, PcrValue>()? {
            let index: PcrIndex = name.parse().map_err(de::Error::custom)?;
            if values.insert(index, value).is_some() {
                return Err(de::Error::custom(format_args!("PCR {index} has two values")));
            }
        }
        Ok(values)
    }
}

/// What a register stands for, for a person who must find out what changed.
#[must_use]
pub fn what_a_pcr_measures(pcr: PcrIndex) -> &'static str {
    match pcr.number() {
        0 => "PCR 0: firmware code",
        1 => "PCR 1: firmware settings and boot order",
        2 => "PCR 2: firmware of extension cards",
        3 => "PCR 3: settings of extension cards",
        4 => "PCR 4: boot loader and kernel image that the firmware started",
        5 => "PCR 5: boot loader settings and partition table",
        6 => "PCR 6: manufacturer's own events",
        7 => "PCR 7: Secure Boot state, keys and the certificates that were used",
        8 => "PCR 8: GRUB commands and kernel command line (GRUB)",
        9 => "PCR 9: kernel command line and initrd (EFI stub, GRUB)",
        10 => "PCR 10: files as the kernel measured them (IMA)",
        11 => "PCR 11: unified kernel image and boot phases (systemd)",
        12 => "PCR 12: kernel command line, credentials and add-ons of a unified kernel (systemd)",
        13 => "PCR 13: system extensions of the initrd (systemd)",
        14 => "PCR 14: machine owner keys (shim)",
        15 => "PCR 15: system identity, volume keys and enforcement policy",
        16 => "PCR 16: debugging; anyone can reset it",
        17..=22 => "a PCR for dynamic launch",
        _ => "PCR 23: applications; anyone can reset it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(number: u8) -> PcrIndex {
        PcrIndex::new(number).unwrap()
    }

    #[test]
    fn numbers() {
        assert_eq!(PcrIndex::all().count(), 24);
        for (text, expected) in [("0", Some(0)), ("7", Some(7)), ("23", Some(23))] {
            let parsed: Option<PcrIndex> = text.parse().ok();
            assert_eq!(parsed.map(PcrIndex::number), expected);
            assert_eq!(parsed.unwrap().to_string(), text);
        }
        for wrong in ["24", "256", "-1", "", "07", "+7", " 7", "0x7", "seven", "4294967303"] {
            assert_eq!(wrong.parse::<PcrIndex>(), Err(PcrIndexError(wrong.to_owned())));
        }
        assert!(PcrIndex::try_from(263).is_err(), "no wrapping around to 7");
    }

    #[test]
    fn extending_is_hashing_old_and_new() {
        // What SeaBIOS and edk2 leave in a PCR that has nothing but its separator: a value seen on every machine.
        let separator = PcrValue::digest_of(&[0; 4]);
        let value = extend(index(2).start(), separator);
        assert_eq!(value.to_string(), "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969");
    }

    #[test]
    fn starts() {
        let ones: Vec<u8> =
            PcrIndex::all().filter(|it| it.start().0 == [0xff; 32]).map(PcrIndex::number).collect();
        assert_eq!(ones, [17, 18, 19, 20, 21, 22]);
    }

    #[test]
    fn the_composite_hashes_values_by_number() {
        let (low, high) = (PcrValue([1; 32]), PcrValue([2; 32]));
        let values: PcrValues = [(index(11), high), (index(7), low)].into_iter().collect();
        assert_eq!(values.composite(), PcrValue::digest_of(&[low.0, high.0].concat()));
        assert_eq!(PcrValues::default().composite(), PcrValue::digest_of(b""));
    }

    #[test]
    fn a_selection_is_whole_or_none() {
        let values: PcrValues =
            [(index(4), PcrValue([4; 32])), (index(7), PcrValue([7; 32]))].into_iter().collect();
        assert_eq!(
            values.select([index(7)]).unwrap().iter().collect::<Vec<_>>(),
            [(index(7), PcrValue([7; 32]))]
        );
        assert_eq!(values.select([index(7), index(9)]), None);
    }

    #[test]
    fn as_json() {
        let values: PcrValues =
            [(index(11), PcrValue([0xab; 32])), (index(9), PcrValue([9; 32]))].into_iter().collect();
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(text, format!(r#"{{"9":"{}","11":"{}"}}"#, "09".repeat(32), "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<PcrValues>(&text).unwrap(), values);
        let digits = "ab".repeat(32);
        for (wrong, why) in [
            (format!(r#"{{"24":"{digits}"}}"#), "`24` is no PCR"),
            (format!(r#"{{"7":"{digits}","7":"{digits}"}}"#), "PCR 7 has two values"),
            (r#"{"7":"abcd"}"#.to_owned(), "64 hexadecimal digits"),
        ] {
            let error = serde_json::from_str::<PcrValues>(&wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(serde_json::to_string(&index(15)).unwrap(), "15");
        assert!(serde_json::from_str::<PcrIndex>("24").is_err());
    }

    #[test]
    fn every_register_is_explained_by_its_number() {
        for pcr in PcrIndex::all().filter(|pcr| !(17..=22).contains(&pcr.number())) {
            assert!(what_a_pcr_measures(pcr).starts_with(&format!("PCR {pcr}: ")), "{pcr}");
        }
    }
}
