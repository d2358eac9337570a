//! The guest's TPM: registers and log as the kernel shows them, and the few commands that a scenario needs, byte by byte.
//!
//! The product talks to a TPM through a library. Tests that ask the chip itself do not depend on it.

use std::{
    fs::{File, OpenOptions, read_to_string},
    io::{Read, Write},
};

use enforcer::measured::{
    firmware::FirmwareLog,
    pcr::{PcrIndex, PcrValue, PcrValues},
};

/// What the firmware and the boot loader measured, as the kernel hands it out.
pub const FIRMWARE_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// What the TPM's SHA-256 bank holds.
///
/// # Panics
/// Without a TPM.
#[must_use]
pub fn registers() -> PcrValues {
    let read = |index: PcrIndex| {
        let file = format!("/sys/class/tpm/tpm0/pcr-sha256/{index}");
        let text = read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let value: PcrValue = text.trim().parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        (index, value)
    };
    PcrIndex::all().map(read).collect()
}

/// The firmware's log of this boot, as bytes and parsed.
///
/// # Panics
/// Without one.
#[must_use]
pub fn firmware_log() -> (Vec<u8>, FirmwareLog) {
    let bytes = std::fs::read(FIRMWARE_LOG).unwrap_or_else(|error| panic!("{FIRMWARE_LOG}: {error}"));
    let log = FirmwareLog::parse(&bytes).unwrap_or_else(|error| panic!("{FIRMWARE_LOG}: {error}"));
    (bytes, log)
}

/// A connection to the TPM.
pub struct Tpm {
    device: File,
}

/// How often the TPM was reset since it was made: it remembers that without power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resets(pub u32);

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const NV_UNDEFINE_SPACE: u32 = 0x0000_0122;
const NV_DEFINE_SPACE: u32 = 0x0000_012a;
const NV_WRITE: u32 = 0x0000_0137;
const NV_READ: u32 = 0x0000_014e;
const PCR_EXTEND: u32 = 0x0000_0182;
const READ_CLOCK: u32 = 0x0000_0181;
const OWNER: u32 = 0x4000_0001;
const SHA256: u16 = 0x000b;

/// Read and written by the owner, not subject to the lock-out after wrong guesses.
const OWNER_READ_AND_WRITE: u32 = 0x0202_0002;

/// The empty password, as the authorisation of one handle.
const EMPTY_PASSWORD: [u8; 9] = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];

impl Tpm {
    /// Opens the kernel's TPM device.
    ///
    /// # Panics
    /// Without one.
    #[must_use]
    pub fn open() -> Self {
        let device = OpenOptions::new().read(true).write(true).open("/dev/tpmrm0");
        Self { device: device.expect("the guest has a TPM") }
    }

    /// `TPM2_ReadClock`.
    ///
    /// # Panics
    /// When the TPM refuses.
    pub fn resets(&mut self) -> Resets {
        let answer = self.command(NO_SESSIONS, READ_CLOCK, &[]);
        // Time and clock have eight bytes each.
        let count =
            answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).expect("a whole TPMS_TIME_INFO");
        Resets(u32::from_be_bytes(count))
    }

    /// Measures something into a register.
    ///
    /// # Panics
    /// When the TPM refuses.
    pub fn extend(&mut self, pcr: PcrIndex, digest: PcrValue) {
        let handle = u32::from(pcr.number()).to_be_bytes();
        let digests = [&1_u32.to_be_bytes()[..], &SHA256.to_be_bytes(), &digest.0].concat();
        self.command(SESSIONS, PCR_EXTEND, &[&handle[..], &authorisation(), &digests].concat());
    }

    /// Makes an index in the TPM's own memory and writes this into it.
    ///
    /// # Panics
    /// When the TPM refuses, also because the index is there.
    pub fn remember(&mut self, index: u32, data: &[u8]) {
        let size = u16::try_from(data.len()).expect("an index is small").to_be_bytes();
        let [index, owner] = [index, OWNER].map(u32::to_be_bytes);
        let public =
            [&index[..], &SHA256.to_be_bytes(), &OWNER_READ_AND_WRITE.to_be_bytes(), &[0, 0], &size].concat();
        let public_size = u16::try_from(public.len()).expect("it has 14 bytes").to_be_bytes();
        let authorisation = authorisation();
        self.command(
            SESSIONS,
            NV_DEFINE_SPACE,
            &[&owner[..], &authorisation, &[0, 0], &public_size, &public].concat(),
        );
        self.command(
            SESSIONS,
            NV_WRITE,
            &[&owner[..], &index, &authorisation, &size, data, &[0, 0]].concat(),
        );
    }

    /// Removes an index, as anybody can who has the owner's authorisation, here empty.
    ///
    /// # Panics
    /// When the TPM refuses, also because there is no such index.
    pub fn forget(&mut self, index: u32) {
        let [index, owner] = [index, OWNER].map(u32::to_be_bytes);
        self.command(SESSIONS, NV_UNDEFINE_SPACE, &[&owner[..], &index, &authorisation()].concat());
    }

    /// What was written into an index.
    ///
    /// # Panics
    /// When the TPM refuses, also because there is no such index.
    pub fn recall(&mut self, index: u32, len: u16) -> Vec<u8> {
        let [index, owner] = [index, OWNER].map(u32::to_be_bytes);
        let parameters = [&owner[..], &index, &authorisation(), &len.to_be_bytes(), &[0, 0]].concat();
        let answer = self.command(SESSIONS, NV_READ, &parameters);
        // The parameters' size, the data's size, the data, the session's answer.
        let start = 6;
        answer.get(start..start + usize::from(len)).expect("as much as was asked for").to_vec()
    }

    /// Sends one command and returns its answer behind the header.
    fn command(&mut self, tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
        const HEADER: usize = 10;
        let size = u32::try_from(HEADER + body.len()).expect("a command is small");
        let bytes = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes(), body].concat();
        self.device.write_all(&bytes).expect("sending a TPM command");
        let mut answer = vec![0; 4096];
        let len = self.device.read(&mut answer).expect("reading the TPM's answer");
        answer.truncate(len);
        let status = answer.get(6..HEADER).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        assert_eq!(status, Some(0), "the TPM answers command {code:#x} with {}", answer.escape_ascii());
        answer.split_off(HEADER)
    }
}

/// The empty password and its length.
fn authorisation() -> Vec<u8> {
    let size = u32::try_from(EMPTY_PASSWORD.len()).expect("nine").to_be_bytes();
    [&size[..], &EMPTY_PASSWORD].concat()
}
