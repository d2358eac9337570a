//! What was installed, by name: the part of the installation that the maps do not hold.
//!
//! The maps know slots and numbers, people know names. This file connects them, and says which tables and spans are
//! taken. It is written before the maps change (with what is about to be) and after (with what is). Whoever reads it
//! asks the maps which of the two came true, so a crash at any point is recovered from; losing the file loses names,
//! not enforcement.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use enforcer_common::abi::Slot;
use serde::{Deserialize, Serialize};

use super::place::Span;
use crate::{file, policy::containers::ContainerSelector};

/// Version of the file's layout.
pub const SCHEMA: u32 = 1;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What is in force.
    pub installed: Snapshot,
    /// What was about to be, when the installer last said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Snapshot>,
    /// The next incarnation to give out.
    pub next_incarnation: u32,
    /// The next table number to give out.
    pub next_table: u32,
}

/// One generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its number.
    pub generation: u64,
    /// The launchers it was installed with.
    pub launchers: Vec<String>,
    /// The table of the launchers.
    pub launchers_table: u32,
    /// The table of the selectors.
    pub selectors_table: u32,
    /// Its policies, by name.
    pub policies: Vec<PolicyRecord>,
    /// Its tables.
    pub tables: Vec<TableRecord>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Its name.
    pub name: String,
    /// Its slot.
    pub slot: Slot,
    /// Its incarnation.
    pub incarnation: u32,
    /// Its table.
    pub table: u32,
    /// Where it came from.
    pub origin: String,
    /// SHA-256 of its bytes.
    pub digest: String,
    /// How it was proved genuine; `unsigned` if it was not.
    pub trust: String,
    /// Mode codes by family.
    pub modes: Vec<u8>,
    /// The containers that it admits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<ContainerSelector>,
}

/// Where a table lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Its number.
    pub id: u32,
    /// What it holds; see [`super::place::digest`]. Empty if that is not known any more.
    pub digest: String,
    /// Number of exact names.
    pub exact: u32,
    /// Number of contents.
    #[serde(default)]
    pub pins: u32,
    /// Number of prefixes.
    pub prefixes: u32,
    /// Its part of the arena.
    pub arena: Span,
    /// Its part of the port ranges.
    pub ports: Span,
}

impl Snapshot {
    /// The policy with this name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&PolicyRecord> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// The policy of a label or event.
    #[must_use]
    pub fn policy_of(&self, slot: Slot, incarnation: u32) -> Option<&PolicyRecord> {
        self.policies.iter().find(|policy| policy.slot == slot && policy.incarnation == incarnation)
    }

    /// The table with this number.
    #[must_use]
    pub fn table(&self, id: u32) -> Option<&TableRecord> {
        self.tables.iter().find(|table| table.id == id)
    }
}

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where the state is kept. A trait so that installation is tested without files.
pub trait StateStore {
    /// The last state saved. `None` if there is none or it is of no use.
    ///
    /// # Errors
    /// [`StateError::Read`] when the file is there but cannot be read.
    fn load(&self) -> Result<Option<State>, StateError>;
    /// Replaces it, so that a crash leaves the old or the new.
    ///
    /// # Errors
    /// [`StateError::Write`].
    fn save(&mut self, state: &State) -> Result<(), StateError>;
}

/// Which file is there. Each save makes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    inode: u64,
    changed: (i64, i64),
}

/// A state file.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file `state.json` in a directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("state.json") }
    }

    /// Which file is there now, if one is.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some(Version { inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) })
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn remove(&self) -> Result<(), StateError> {
        file::remove(&self.path).map_err(|error| self.write_error(error))
    }

    fn write_error(&self, source: io::Error) -> StateError {
        StateError::Write { path: self.path.clone(), source }
    }

    fn try_save(&self, state: &State) -> io::Result<()> {
        let text = serde_json::to_string_pretty(state)? + "\n";
        file::replace(&self.path, text.as_bytes())
    }
}

impl StateStore for StateFile {
    fn load(&self) -> Result<Option<State>, StateError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { path: self.path.clone(), source }),
        };
        match serde_json::from_slice::<State>(&bytes) {
            Ok(state) if state.schema == SCHEMA => Ok(Some(state)),
            Ok(state) => {
                tracing::warn!(schema = state.schema, "the state file is of another version and is not used");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "the state file is damaged and is not used");
                Ok(None)
            }
        }
    }

    fn save(&mut self, state: &State) -> Result<(), StateError> {
        self.try_save(state).map_err(|error| self.write_error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            schema: SCHEMA,
            installed: Snapshot {
                generation: 3,
                launchers: vec!["/usr/bin/runc".into()],
                launchers_table: 1,
                selectors_table: 2,
                policies: vec![PolicyRecord {
                    name: "web".into(),
                    slot: 2,
                    incarnation: 7,
                    table: 3,
                    origin: "/etc/enforcer/policies.d/web.toml".into(),
                    digest: "00".into(),
                    trust: "unsigned".into(),
                    modes: vec![0; 8],
                    containers: None,
                }],
                tables: vec![],
            },
            pending: None,
            next_incarnation: 8,
            next_table: 4,
        }
    }

    #[test]
    fn round_trip_and_replacement() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::in_directory(directory.path());
        assert_eq!(file.load().unwrap(), None);
        let first = state();
        file.save(&first).unwrap();
        assert_eq!(file.load().unwrap(), Some(first.clone()));
        let second = State { pending: Some(first.installed.clone()), ..first };
        file.save(&second).unwrap();
        assert_eq!(file.load().unwrap(), Some(second));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.load().unwrap(), None);
    }

    #[test]
    fn damage_and_other_versions_are_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::in_directory(directory.path());
        file.save(&state()).unwrap();
        let whole = fs::read(directory.path().join("state.json")).unwrap();
        // Shorter by more than the final newline and brace.
        for len in [0, 1, whole.len() / 2, whole.len() - 3] {
            fs::write(directory.path().join("state.json"), &whole[..len]).unwrap();
            assert_eq!(file.load().unwrap(), None, "{len}");
        }
        file.save(&State { schema: 2, ..state() }).unwrap();
        assert_eq!(file.load().unwrap(), None);
    }
}
