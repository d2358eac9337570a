//! Addresses of kernel variables that have no type information, from `/proc/kallsyms`.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

/// The kernel's symbol table.
pub const KALLSYMS: &str = "/proc/kallsyms";

/// Addresses that cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// The table cannot be read.
    #[error("cannot read {KALLSYMS}: {0}")]
    Read(#[from] io::Error),
    /// The kernel shows no addresses.
    #[error(
        "{KALLSYMS} shows no addresses; run as root with CAP_SYSLOG, or set kernel.kptr_restrict to 1 or less"
    )]
    Hidden,
    /// The kernel lacks the variables.
    #[error("{KALLSYMS} lacks {}; the kernel must be built with CONFIG_KALLSYMS_ALL=y", .0.join(", "))]
    Missing(Vec<&'static str>),
}

/// Variables of the kernel whose addresses the programs need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// The sequence lock that tells a walk of the file tree of every change of a name.
    pub rename_lock: u64,
    /// And the one that tells it of every change of the mount tree.
    pub mount_lock: u64,
    /// The first pid namespace, which knows the host's first process.
    pub init_pid_ns: u64,
}

impl Symbols {
    /// Their names.
    pub const NAMES: [&'static str; 3] = ["rename_lock", "mount_lock", "init_pid_ns"];

    /// Those of the running kernel.
    ///
    /// # Errors
    /// [`SymbolError`].
    pub fn of_running_kernel() -> Result<Self, SymbolError> {
        Self::read(BufReader::new(File::open(KALLSYMS)?))
    }

    fn read(table: impl BufRead) -> Result<Self, SymbolError> {
        let mut found = Self::NAMES.map(|_| None);
        for line in table.lines() {
            let line = line?;
            // `ADDRESS TYPE NAME`, and `[MODULE]` behind symbols of modules.
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(_), Some(name), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            for (wanted, slot) in Self::NAMES.iter().zip(&mut found) {
                if *wanted == name {
                    *slot = u64::from_str_radix(address, 16).ok();
                }
            }
        }
        if found.contains(&Some(0)) {
            return Err(SymbolError::Hidden);
        }
        match found {
            [Some(rename_lock), Some(mount_lock), Some(init_pid_ns)] => {
                Ok(Self { rename_lock, mount_lock, init_pid_ns })
            }
            _ => {
                let missing = Self::NAMES.into_iter().zip(found).filter(|(_, found)| found.is_none());
                Err(SymbolError::Missing(missing.map(|(name, _)| name).collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<Symbols, SymbolError> {
        Symbols::read(table.as_bytes())
    }

    #[test]
    fn variables_are_found_and_those_of_modules_are_not() {
        let table = "ffffffff9be09600 D rename_lock\n\
                     ffffffffc0000010 d rename_lock\t[evil]\n\
                     ffffffff9be09601 D rename_lock_of_another\n\
                     ffffffff9be0a000 D init_pid_ns\n\
                     ffffffff9be09680 D mount_lock\n";
        let expected = Symbols {
            rename_lock: 0xffff_ffff_9be0_9600,
            mount_lock: 0xffff_ffff_9be0_9680,
            init_pid_ns: 0xffff_ffff_9be0_a000,
        };
        assert_eq!(read(table).unwrap(), expected);
    }

    #[test]
    fn what_is_hidden_or_missing_is_said() {
        let hidden = "0000000000000000 D rename_lock\n0000000000000000 D mount_lock\n";
        assert!(matches!(read(hidden), Err(SymbolError::Hidden)));
        let error = read("ffffffff9be09600 D rename_lock\nnonsense\n").unwrap_err();
        let expected = ["mount_lock", "init_pid_ns"];
        assert!(matches!(&error, SymbolError::Missing(names) if names == &expected), "{error}");
        assert!(error.to_string().contains("CONFIG_KALLSYMS_ALL"));
    }
}
