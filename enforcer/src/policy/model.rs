//! A policy as the rest of the program knows it.
//!
//! Only [`super::parse`] makes a [`Policy`], and only from a file without errors. Holding one says that every pattern,
//! address and name in it is valid; not that it fits the kernel's tables, which [`super::compile`] finds out, nor that
//! anyone signed it.

use std::fmt;

use enforcer_common::{
    hook::Privilege,
    rights::Rights,
    verdict::{FAMILY_SLOTS, Family, Mode},
};

use super::{
    containers::ContainerSelector, digest::Pinned, families::SocketFamily, glob::Glob, net::Reach,
    source::Span,
};

/// One policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// What it is for, in its author's words.
    pub description: Option<String>,
    /// Whom it binds.
    pub selector: Selector,
    /// What a denial leads to.
    pub modes: Modes,
    /// The rules as written, in the order of the file. Objects and addresses refer to them by index.
    pub rules: Vec<Origin>,
    /// Rules about named objects.
    pub objects: Vec<ObjectRule>,
    /// Contents that programs are pinned to. Each belongs to an object rule of the same index.
    pub pins: Vec<PinRule>,
    /// Rules about addresses.
    pub addresses: Vec<Reach>,
    /// Switches that are on.
    pub switches: Vec<(Switch, Origin)>,
    /// Socket families that are listed.
    pub families: Vec<(SocketFamily, Origin)>,
    /// Privileges that are listed.
    pub privileges: Vec<(Privilege, Origin)>,
}

impl Policy {
    /// The policy for the same workloads that allows nothing.
    #[must_use]
    pub fn denying_all(&self) -> Self {
        Self {
            name: self.name.clone(),
            description: self.description.clone(),
            selector: self.selector.clone(),
            modes: Modes::all(Mode::Enforce),
            rules: Vec::new(),
            objects: Vec::new(),
            pins: Vec::new(),
            addresses: Vec::new(),
            switches: Vec::new(),
            families: Vec::new(),
            privileges: Vec::new(),
        }
    }
}

/// Where in the file something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What it says, e.g. `file.read "/etc/nginx/**"`.
    pub text: String,
    /// Line, from 1.
    pub line: u32,
    /// Place of the value.
    pub span: Span,
}

/// A grant on all objects whose name matches.
#[derive(Clone, Debug)]
pub struct ObjectRule {
    /// Index into [`Policy::rules`].
    pub rule: u32,
    /// The names.
    pub glob: Glob,
    /// What is granted, without what that implies.
    pub rights: Rights,
}

/// A content that a program may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRule {
    /// Index into [`Policy::rules`].
    pub rule: u32,
    /// The program's path.
    pub name: Vec<u8>,
    /// What it may hold.
    pub content: Pinned,
}

/// A policy's name: `[a-z0-9][a-z0-9._-]{0,63}`, so that it can be a file name and a metric's label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(String);

/// Why a text is no policy name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyNameError {
    /// Nothing there.
    #[error("a policy's name must not be empty")]
    Empty,
    /// More than 64 bytes.
    #[error("a policy's name has at most {} characters", PolicyName::MAX)]
    Long,
    /// A character outside the set.
    #[error("`{0}` cannot be part of a policy's name: use a-z, 0-9 and, not first, `.`, `_`, `-`")]
    Character(char),
}

impl PolicyName {
    /// Longest name, in bytes.
    pub const MAX: usize = 64;

    /// Takes a text that is a name.
    ///
    /// # Errors
    /// [`PolicyNameError`] otherwise.
    pub fn new(text: &str) -> Result<Self, PolicyNameError> {
        if text.is_empty() {
            return Err(PolicyNameError::Empty);
        }
        let allowed = |(at, c): &(usize, char)| {
            matches!(c, 'a'..='z' | '0'..='9') || (*at > 0 && matches!(c, '.' | '_' | '-'))
        };
        if let Some((_, c)) = text.char_indices().find(|entry| !allowed(entry)) {
            return Err(PolicyNameError::Character(c));
        }
        if text.len() > Self::MAX { Err(PolicyNameError::Long) } else { Ok(Self(text.to_owned())) }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a policy binds.
#[derive(Clone, Debug)]
pub struct Selector {
    /// How the author put it.
    pub kind: SelectorKind,
    /// The patterns of cgroup paths. At least one, unless it is about containers.
    pub patterns: Vec<SelectorPattern>,
    /// The containers that it admits.
    pub container: Option<ContainerSelector>,
}

/// The key under `[workload]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorKind {
    /// systemd units.
    Unit,
    /// systemd slices.
    Slice,
    /// Cgroup paths.
    Cgroup,
    /// Containers, by what their runtime says of them.
    Container,
    /// The cgroups that runtimes put containers into: the policy is the base policy of those.
    ContainerRoots,
}

/// One pattern of cgroup paths.
#[derive(Clone, Debug)]
pub struct SelectorPattern {
    /// The pattern.
    pub glob: Glob,
    /// Whether it names the cgroup or one above it.
    pub reach: SelectorReach,
    /// Where it stands.
    pub origin: Origin,
}

/// How directly a pattern names a cgroup. The more direct one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SelectorReach {
    /// The pattern was made from the name of a slice above.
    Below,
    /// The pattern is one for containers of any kind.
    Base,
    /// The pattern is about the cgroup itself.
    Itself,
}

/// A mode for each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    codes: [u8; FAMILY_SLOTS],
}

impl Modes {
    /// The same mode for every family.
    #[must_use]
    pub fn all(mode: Mode) -> Self {
        let mut modes = Self { codes: [Mode::Enforce.code(); FAMILY_SLOTS] };
        Family::ALL.iter().for_each(|family| modes.set(*family, mode));
        modes
    }

    /// Sets one family's mode.
    pub fn set(&mut self, family: Family, mode: Mode) {
        self.codes[usize::from(family.code())] = mode.code();
    }

    /// One family's mode.
    #[must_use]
    pub fn of(&self, family: Family) -> Mode {
        Mode::from_code(self.codes[usize::from(family.code())]).unwrap_or(Mode::Enforce)
    }

    /// As the kernel side stores them.
    #[must_use]
    pub const fn codes(&self) -> [u8; FAMILY_SLOTS] {
        self.codes
    }
}

/// Classes of objects that no rule can name, opened as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// Executable memory that no file backs.
    AnonymousExec,
    /// Reading and writing files without a name.
    UnlinkedFiles,
    /// Running files without a name.
    UnlinkedExec,
    /// Raw sockets.
    RawSockets,
}

impl Switch {
    /// Every switch.
    pub const ALL: &'static [Self] =
        &[Self::AnonymousExec, Self::UnlinkedFiles, Self::UnlinkedExec, Self::RawSockets];

    /// Its bit in [`enforcer_common::abi::Head::switches`].
    #[must_use]
    pub const fn bit(self) -> u32 {
        use enforcer_common::abi::switch;
        match self {
            Self::AnonymousExec => switch::ANONYMOUS_EXEC,
            Self::UnlinkedFiles => switch::UNLINKED_FILES,
            Self::UnlinkedExec => switch::UNLINKED_EXEC,
            Self::RawSockets => switch::RAW_SOCKETS,
        }
    }

    /// The table and key that set it.
    #[must_use]
    pub const fn key(self) -> (&'static str, &'static str) {
        match self {
            Self::AnonymousExec => ("memory", "anonymous"),
            Self::UnlinkedFiles => ("file", "unlinked"),
            Self::UnlinkedExec => ("exec", "unlinked"),
            Self::RawSockets => ("network", "raw"),
        }
    }
}

/// The list that grants a right on named objects: table, key, right.
pub const OBJECT_LISTS: &[(&str, &str, Rights)] = &[
    ("exec", "allow", Rights::EXEC),
    ("exec", "probes", Rights::PROBE),
    ("memory", "libraries", Rights::LIBRARY),
    ("file", "read", Rights::READ),
    ("file", "write", Rights::WRITE),
    ("file", "create", Rights::CREATE),
    ("interpreters", "programs", Rights::INTERPRETER),
    ("interpreters", "code", Rights::CODE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "nginx", "a.b_c-d", &"x".repeat(64)] {
            assert!(PolicyName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "A", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(PolicyName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes() {
        let mut modes = Modes::all(Mode::Audit);
        modes.set(Family::Exec, Mode::Enforce);
        assert_eq!(modes.of(Family::Exec), Mode::Enforce);
        assert_eq!(modes.of(Family::Privilege), Mode::Audit);
        // Families that do not exist yet are enforced.
        assert_eq!(modes.codes(), [0, 1, 1, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn every_switch_has_a_key() {
        for switch in Switch::ALL {
            let (table, key) = switch.key();
            assert_eq!(super::super::schema::type_of(table, key), Some(super::super::schema::Type::Switch));
        }
    }
}
