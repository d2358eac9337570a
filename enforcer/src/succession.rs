//! Who becomes the daemon of a machine that is sealed.
//!
//! The kernel answers for the code that runs. What a program can be told to do, this answers for: a successor has the settings
//! of the daemon that sealed, trusts the same anchors, and takes nothing from its environment that could lead it elsewhere.
#![forbid(unsafe_code)]

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    bundle::anchors::{Anchors, AnchorsError},
    kernel::{
        maps::{self, OpenError},
        pin::Pins,
    },
};

/// Why this process cannot be the daemon.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// The kernel does not have it.
    #[error(
        "this machine is sealed, and the kernel does not take this process for the daemon: it must be the program that sealed, \
         started untraced in the host's mount namespace, without a filter of system calls or libraries of its own ({0})"
    )]
    Refused(#[source] OpenError),
    /// It would do something else than the daemon that sealed.
    #[error("this machine is sealed with other settings of the daemon; start it as it was when it sealed")]
    Settings,
    /// It would trust somebody else.
    #[error("this machine is sealed with other anchors than {} holds", .0.display())]
    Anchors(PathBuf),
    /// The anchors cannot be read.
    #[error(transparent)]
    Unreadable(#[from] AnchorsError),
    /// It cannot be started without its environment.
    #[error("cannot start anew with a clean environment: {0}")]
    Again(io::Error),
}

/// Variables that are passed on. None of them leads to files: `TSS2_LOG`, which this program sets itself, says how much is logged.
const HARMLESS: &[&str] = &[
    "ENFORCER_LOG",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "NOTIFY_SOCKET",
    "NO_COLOR",
    "PATH",
    "SYSTEMD_EXEC_PID",
    "TERM",
    "TSS2_LOG",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// A process that may be the daemon: of a machine that is sealed, or of one that is not.
#[derive(Debug)]
pub struct Successor {
    is_sealed: bool,
}

/// Checks whether this process may be the daemon. Starts the program anew where the machine is sealed and the environment has
/// anything that it should not have.
///
/// # Errors
/// [`SuccessionError`].
pub fn prepare(pins: &Pins, anchors: &Path, settings: &[u8; 32]) -> Result<Successor, SuccessionError> {
    let keeper = maps::read_keeper(&pins.maps()).map_err(SuccessionError::Refused)?;
    let Some(keeper) = keeper.filter(|keeper| keeper.is_sealed()) else {
        return Ok(Successor { is_sealed: false });
    };
    let variables: Vec<_> = std::env::vars_os().collect();
    if variables.iter().any(|(name, _)| !is_harmless(name)) {
        return Err(SuccessionError::Again(again(variables)));
    }
    if keeper.settings != *settings {
        return Err(SuccessionError::Settings);
    }
    if Anchors::read(anchors)?.digest != keeper.anchors {
        return Err(SuccessionError::Anchors(anchors.to_owned()));
    }
    Ok(Successor { is_sealed: true })
}

impl Successor {
    /// Makes this process the daemon if the machine is sealed. The caller sees to it that there is no other.
    ///
    /// # Errors
    /// [`SuccessionError::Refused`].
    pub fn succeed(self, pins: &Pins) -> Result<(), SuccessionError> {
        if self.is_sealed {
            maps::succeed(&pins.maps()).map_err(SuccessionError::Refused)?;
            tracing::warn!("this machine is sealed; this process takes the place of the daemon that was");
        }
        Ok(())
    }
}

fn is_harmless(name: &OsStr) -> bool {
    HARMLESS.iter().any(|harmless| name == *harmless)
}

/// Does not return unless it fails.
fn again(variables: Vec<(OsString, OsString)>) -> io::Error {
    let kept = variables.into_iter().filter(|(name, _)| is_harmless(name));
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    Command::new(program).args(std::env::args_os().skip(1)).env_clear().envs(kept).exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_is_not_passed_on() {
        for name in
            ["LD_PRELOAD", "LD_LIBRARY_PATH", "TSS2_LOGFILE", "ENFORCER_VERIFIER_LOG_DIR", "RUST_LOG", ""]
        {
            assert!(!is_harmless(OsStr::new(name)), "{name}");
        }
        assert!(HARMLESS.iter().all(|name| is_harmless(OsStr::new(name))));
    }

    #[test]
    fn nothing_is_asked_where_enforcement_is_off() {
        let empty = tempfile::tempdir().unwrap();
        let pins = Pins::at(empty.path().to_owned());
        let successor = prepare(&pins, Path::new("/nowhere"), &[0; 32]).unwrap();
        assert!(!successor.is_sealed);
        successor.succeed(&pins).unwrap();
    }
}
