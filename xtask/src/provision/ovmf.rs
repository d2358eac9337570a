//! UEFI firmware for guests with measured boot: Debian's build of OVMF, which measures what it starts.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::apt;

/// Files of the firmware.
#[derive(Debug, Clone)]
pub(crate) struct Ovmf {
    /// Its code.
    pub(crate) code: PathBuf,
    /// Its variables as a new machine has them: no Secure Boot keys.
    pub(crate) variables: PathBuf,
}

/// Without system management mode, which the emulator would have to be built around, hence without Secure Boot.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The installed firmware.
pub(crate) fn ensure() -> Result<Ovmf> {
    apt::ensure(&[apt::Purpose::Uefi])?;
    let ovmf = Ovmf { code: CODE.into(), variables: VARIABLES.into() };
    for file in [&ovmf.code, &ovmf.variables] {
        ensure!(file.exists(), "{} is missing: is the package ovmf damaged?", file.display());
    }
    Ok(ovmf)
}
