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

/// The sequence locks that tell a walk of the file tree whether it was disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLocks {
    /// `rename_lock`: every change of a name.
    pub rename: u64,
    /// `mount_lock`: every change of the mount tree.
    pub mount: u64,
}

impl TreeLocks {
    /// Those of the running kernel.
    ///
    /// # Errors
    /// [`SymbolError`].
    pub fn of_running_kernel() -> Result<Self, SymbolError> {
        Self::read(BufReader::new(File::open(KALLSYMS)?))
    }

    fn read(table: impl BufRead) -> Result<Self, SymbolError> {
        let (mut rename, mut mount) = (None, None);
        for line in table.lines() {
            let line = line?;
            // `ADDRESS TYPE NAME`, and `[MODULE]` behind symbols of modules.
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(_), Some(name), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let slot = match name {
                "rename_lock" => &mut rename,
                "mount_lock" => &mut mount,
                _ => continue,
            };
            *slot = u64::from_str_radix(address, 16).ok();
        }
        match (rename, mount) {
            (Some(0), _) | (_, Some(0)) => Err(SymbolError::Hidden),
            (Some(rename), Some(mount)) => Ok(Self { rename, mount }),
            _ => {
                let wanted = [("rename_lock", rename), ("mount_lock", mount)];
                Err(SymbolError::Missing(
                    wanted.into_iter().filter(|(_, found)| found.is_none()).map(|(name, _)| name).collect(),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<TreeLocks, SymbolError> {
        TreeLocks::read(table.as_bytes())
    }

    #[test]
    fn both_locks_are_found_and_modules_are_not() {
        let table = "ffffffff9be09600 D rename_lock\n\
                     ffffffffc0000010 d rename_lock\t[evil]\n\
                     ffffffff9be09601 D rename_lock_of_another\n\
                     ffffffff9be09680 D mount_lock\n";
        let expected = TreeLocks { rename: 0xffff_ffff_9be0_9600, mount: 0xffff_ffff_9be0_9680 };
        assert_eq!(read(table).unwrap(), expected);
    }

    #[test]
    fn what_is_hidden_or_missing_is_said() {
        let hidden = "0000000000000000 D rename_lock\n0000000000000000 D mount_lock\n";
        assert!(matches!(read(hidden), Err(SymbolError::Hidden)));
        let error = read("ffffffff9be09600 D rename_lock\nnonsense\n").unwrap_err();
        assert!(matches!(&error, SymbolError::Missing(names) if names == &["mount_lock"]), "{error}");
        assert!(error.to_string().contains("CONFIG_KALLSYMS_ALL"));
    }
}
