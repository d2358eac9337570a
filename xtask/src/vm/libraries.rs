//! Shared libraries of programs that cannot be linked statically.
//!
//! Debian ships the TPM software stack as shared libraries only. A program that needs such a library enters the
//! guest together with the build machine's own copies, including the C library, in a directory of their own, so it
//! runs in both tiers whatever the guest's distribution has.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vm_guest::layout::LIB_DIR;

use crate::process;

/// Opened at run time by name, so `ldd` does not show it: the library that asks, and what it asks for.
const OPENED_BY_NAME: &[(&str, &str)] = &[("libtss2-tctildr.so.0", "libtss2-tcti-device.so.0")];

/// The dynamic loader's file name.
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Whether the program asks the kernel for a dynamic loader.
pub(super) fn is_dynamic(elf: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    segment_types(elf).is_some_and(|types| types.contains(&INTERPRETER))
}

/// The types of all segments of a 64-bit little-endian ELF file.
fn segment_types(elf: &[u8]) -> Option<Vec<u32>> {
    let field = |at: usize, size: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    elf.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let table = usize::try_from(field(32, 8)?).ok()?;
    let (size, count) = (usize::try_from(field(54, 2)?).ok()?, usize::try_from(field(56, 2)?).ok()?);
    (0..count).map(|index| u32::try_from(field(table.checked_add(index * size)?, 4)?).ok()).collect()
}

/// Makes the program look for loader and libraries in the guest's [`LIB_DIR`] only.
pub(super) fn redirect(program: &Path) -> Result<()> {
    // RPATH instead of RUNPATH: it also holds for libraries that libraries open by name.
    process::output(
        process::command("patchelf")
            .args(["--force-rpath", "--set-rpath", LIB_DIR, "--set-interpreter"])
            .arg(format!("{LIB_DIR}/{LOADER}"))
            .arg(program),
    )?;
    Ok(())
}

/// All libraries that the program needs, loader included, as files of this machine.
pub(crate) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let mut libraries = listed_by_ldd(program)?;
    for (asking, wanted) in OPENED_BY_NAME {
        let directory =
            libraries.iter().find(|library| library.ends_with(asking)).and_then(|library| library.parent());
        if let Some(library) =
            directory.map(|directory| directory.join(wanted)).filter(|library| library.exists())
        {
            libraries.extend(listed_by_ldd(&library)?);
            libraries.push(library);
        }
    }
    libraries.sort();
    libraries.dedup();
    Ok(libraries)
}

fn listed_by_ldd(program: &Path) -> Result<Vec<PathBuf>> {
    let listing = process::text(process::command("ldd").arg(program));
    let listing = listing.with_context(|| format!("listing the libraries of {}", program.display()))?;
    Ok(paths(&listing))
}

/// Every absolute path in ldd's output: `name => path (address)` or `path (address)`.
fn paths(listing: &str) -> Vec<PathBuf> {
    let words = listing.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_are_read() {
        let listing = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n\
            \tlibmissing.so => not found\n";
        assert_eq!(paths(listing), [Path::new("/lib/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]);
    }

    #[test]
    fn a_loader_segment_makes_a_program_dynamic() {
        let elf = |segment: u8| {
            let mut bytes = vec![0; 64 + 56];
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, segment);
            bytes
        };
        assert!(is_dynamic(&elf(3)));
        assert!(!is_dynamic(&elf(1)));
        assert!(!is_dynamic(&elf(3)[..64]), "truncated");
        assert!(!is_dynamic(b"#!/bin/sh"));
    }
}
