//! Where the TPM is.
#![forbid(unsafe_code)]

use std::{
    fmt,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// How to reach a TPM: as text, `device:PATH` or `swtpm:host=127.0.0.1,port=N`.
///
/// Comes from root's configuration only, never from the environment: who chooses the TPM chooses what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tcti {
    /// A character device: `/dev/tpmrm0`, behind which the kernel shares the TPM out.
    Device(PathBuf),
    /// The emulator on this machine, for tests: its command port. The control port is the next one.
    Swtpm {
        /// Command port.
        port: u16,
    },
}

impl Tcti {
    /// The kernel's first TPM.
    #[must_use]
    pub fn first_device() -> Self {
        Self::Device("/dev/tpmrm0".into())
    }
}

/// Why some text names no TPM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` does not say where a TPM is: write `device:/dev/tpmrm0`, or `swtpm:host=127.0.0.1,port=N` for an emulator"
)]
pub struct TctiError(String);

impl FromStr for Tcti {
    type Err = TctiError;

    fn from_str(text: &str) -> Result<Self, TctiError> {
        let device = || {
            let path = text.strip_prefix("device:")?;
            // What libtss2 cannot be handed, or would read otherwise.
            let plain = !path.bytes().any(|byte| byte == 0 || byte == b'\n');
            (Path::new(path).is_absolute() && plain).then(|| Self::Device(path.into()))
        };
        let swtpm = || {
            let port = text.strip_prefix("swtpm:host=127.0.0.1,port=")?;
            // The control port is the next one.
            let number: u16 = port.parse().ok().filter(|number| (1..u16::MAX).contains(number))?;
            (number.to_string() == port).then_some(Self::Swtpm { port: number })
        };
        device().or_else(swtpm).ok_or_else(|| TctiError(text.to_owned()))
    }
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm { port } => write!(f, "swtpm:host={},port={port}", Ipv4Addr::LOCALHOST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_forms_are_understood() {
        for (text, expected) in [
            ("device:/dev/tpmrm0", Tcti::first_device()),
            ("device:/dev/tpm0", Tcti::Device("/dev/tpm0".into())),
            ("swtpm:host=127.0.0.1,port=2321", Tcti::Swtpm { port: 2321 }),
        ] {
            let parsed: Tcti = text.parse().unwrap();
            assert_eq!(parsed, expected);
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "device",
            "device:",
            "device:dev/tpmrm0",
            "device:/dev/tpm\0rm0",
            "tabrmd",
            "mssim:host=127.0.0.1,port=2321",
            "swtpm",
            "swtpm:host=192.0.2.1,port=2321",
            "swtpm:host=localhost,port=2321",
            "swtpm:host=127.0.0.1,port=0",
            "swtpm:host=127.0.0.1,port=65535",
            "swtpm:host=127.0.0.1,port=65536",
            "swtpm:host=127.0.0.1,port=+2321",
            "swtpm:port=2321,host=127.0.0.1",
            " device:/dev/tpmrm0",
        ] {
            assert_eq!(text.parse::<Tcti>(), Err(TctiError(text.to_owned())));
        }
    }
}
