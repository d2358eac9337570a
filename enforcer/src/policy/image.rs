//! What the compiler makes of a policy: the contents of the maps, before anyone decided where in the maps they go.

use std::collections::BTreeMap;

use enforcer_common::{
    abi::{Grant, PortRange},
    verdict::FAMILY_SLOTS,
};

/// One policy, compiled. Equal policies give equal images, byte for byte.
///
/// An image is position independent: `table`, `transitions`, `accepts` and the spans' `first` are the installer's to
/// choose, and exact names are hashed only then, under the installation's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyImage {
    /// The policy's name.
    pub name: String,
    /// [`enforcer_common::verdict::Mode`] codes by family.
    pub modes: [u8; FAMILY_SLOTS],
    /// [`enforcer_common::abi::switch`] bits.
    pub switches: u32,
    /// [`enforcer_common::hook::Privilege`] bits.
    pub privileges: u32,
    /// Bit *n*: address family *n*.
    pub socket_families: u64,
    /// Exact names and what they grant, with everything the patterns grant on the same name folded in.
    pub exact: BTreeMap<Vec<u8>, Grant>,
    /// The automaton of the patterns; absent when there are none.
    pub automaton: Option<Automaton>,
    /// Network prefixes (address, bits 0..=128; v4 as v4-mapped) and their port ranges: sorted, disjoint, with those
    /// of every covering prefix folded in.
    pub prefixes: BTreeMap<([u8; 16], u8), Vec<PortRange>>,
    /// The rules as written, by index, for people.
    pub rules: Vec<RuleText>,
}

/// A table-driven automaton over bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automaton {
    /// Byte class of each byte.
    pub class_of: [u8; 256],
    /// Number of classes.
    pub classes: u32,
    /// Start state. State 0 is dead.
    pub start: u32,
    /// `states × classes` next states, row by row.
    pub transitions: Vec<u16>,
    /// `states ×` [`enforcer_common::abi::ACCEPT_CELLS`].
    pub accepts: Vec<u16>,
}

/// Where a rule came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// What it says, e.g. `file.read "/etc/nginx/**"`.
    pub text: String,
    /// Line in the policy file, from 1.
    pub line: u32,
}
