//! An emulated TPM with fresh state, and plain commands for what the library under test does not do.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use enforcer::{
    measured::pcr::PcrIndex,
    tpm::{Tcti, Tpm},
};
use tempfile::TempDir;

/// Far more than any of this takes, for when the machine is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Ports below those that the kernel gives to connections, in pairs; processes start at different ones.
const PORTS: (u16, u16) = (20_000, 32_000);

/// A running swtpm, killed when dropped.
pub(crate) struct Emulator {
    child: Child,
    port: u16,
    state: TempDir,
}

impl Emulator {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let (child, port) = Self::start_somewhere(&state);
        Self { child, port, state }
    }

    /// Starts the same TPM again after it was killed, as when its power comes back: perhaps on other ports.
    pub(crate) fn start_again(&mut self) {
        self.kill_if_alive();
        (self.child, self.port) = Self::start_somewhere(&self.state);
    }

    fn start_somewhere(state: &TempDir) -> (Child, u16) {
        (0..200).find_map(|_| Self::try_start(state)).expect("swtpm starts on no port; is it installed?")
    }

    /// `None` if somebody else has one of the ports.
    fn try_start(state: &TempDir) -> Option<(Child, u16)> {
        let port = next_port();
        // The control port is opened here, so that connecting to it waits until swtpm serves it.
        let control = TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).ok()?;
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--flags", "startup-clear", "--ctrl", "type=tcp,fd=0"]);
        command.arg("--tpmstate").arg(format!("dir={}", state.path().display()));
        command.arg("--server").arg(format!("type=tcp,port={port}"));
        command.stdin(OwnedFd::from(control)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("swtpm is installed (`cargo xtask setup`)");
        // Its copy of the control port: without this, connections would not end when swtpm does.
        drop(command);
        // CMD_GET_CAPABILITY.
        if control_command(port, &[0, 0, 0, 1]).is_ok() {
            return Some((child, port));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        None
    }

    pub(crate) fn tcti(&self) -> Tcti {
        Tcti::Swtpm { port: self.port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn open(&self) -> Tpm {
        Tpm::open(&self.tcti(), PATIENCE).unwrap()
    }

    pub(crate) fn pid(&self) -> libc::pid_t {
        self.child.id().try_into().unwrap()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// It may have been killed by the test; then both calls say so.
    fn kill_if_alive(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What a reset line or a power cut does: PCRs and everything loaded are gone, and nobody has started it yet.
    pub(crate) fn reset_without_startup(&self) {
        initialize(self.port);
    }

    /// A reset, and the start as firmware does it.
    pub(crate) fn reset(&self) {
        self.reset_without_startup();
        self.command(STARTUP, &[0, 0]);
    }

    /// Gives a command without handles or sessions; what came back after the response code.
    pub(crate) fn command(&self, code: u32, parameters: &[u8]) -> Vec<u8> {
        succeeded(self.send(&frame(0x8001, code, &[parameters])))
    }

    /// Gives a command whose first handle is authorized with an empty password; its response code, and the parameters.
    pub(crate) fn authorized(&self, code: u32, handles: &[u32], parameters: &[u8]) -> Result<Vec<u8>, u32> {
        // One session: the password "session", no nonce, no attributes, no password.
        const SESSION: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        let handles: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        let response = self.send(&frame(0x8002, code, &[&handles, &SESSION, parameters]));
        match code_of(&response) {
            0 => Ok(response[10..].to_vec()),
            code => Err(code),
        }
    }

    /// Makes an NV index that anybody may read, holding this, as makers do.
    pub(crate) fn hold(&self, index: u32, bytes: &[u8]) {
        const OWNER: u32 = 0x4000_0001;
        let size = u16::try_from(bytes.len()).unwrap();
        // SHA-256; OWNERWRITE, AUTHREAD, NO_DA; no policy.
        let attributes = [0x02, 0x04, 0x00, 0x02];
        let public =
            [&index.to_be_bytes()[..], &[0, 0x0b], &attributes, &[0, 0], &size.to_be_bytes()].concat();
        // TPM2_NV_DefineSpace, TPM2_NV_Write.
        self.authorized(0x12a, &[OWNER], &[&[0, 0, 0, 14][..], &public].concat()).unwrap();
        for (at, chunk) in bytes.chunks(1000).enumerate() {
            let len = u16::try_from(chunk.len()).unwrap().to_be_bytes();
            let offset = u16::try_from(at * 1000).unwrap().to_be_bytes();
            self.authorized(0x137, &[OWNER, index], &[&len[..], chunk, &offset].concat()).unwrap();
        }
    }

    fn send(&self, command: &[u8]) -> Vec<u8> {
        exchange(&mut connect(self.port), command)
    }

    /// Objects and sessions that are in the TPM now. Needs the connection, so no [`Tpm`] may be open.
    pub(crate) fn loaded(&self) -> Vec<u32> {
        // Transient objects; loaded HMAC and policy sessions; saved sessions.
        [0x8000_0000_u32, 0x0200_0000, 0x0300_0000]
            .into_iter()
            .flat_map(|first| self.handles(first))
            .collect()
    }

    fn handles(&self, first: u32) -> Vec<u32> {
        let parameters = [1_u32, first, 254].map(u32::to_be_bytes).concat();
        // More data; the capability; how many; the handles.
        let response = self.command(0x17a, &parameters);
        let of_kind = |handle: &u32| handle >> 24 == first >> 24;
        response[9..]
            .chunks(4)
            .map(|handle| u32::from_be_bytes(handle.try_into().unwrap()))
            .filter(of_kind)
            .collect()
    }

    /// `TPM2_ReadClock`'s count of resets.
    pub(crate) fn reset_count(&self) -> u32 {
        let response = self.command(0x181, &[]);
        u32::from_be_bytes(response[16..20].try_into().unwrap())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill_if_alive();
    }
}

/// The even port of a pair that this process has not used yet.
pub(crate) fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let pairs = (PORTS.1 - PORTS.0) / 2;
    let start = u16::try_from(std::process::id() % u32::from(pairs)).unwrap();
    let pair = start.wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % pairs;
    PORTS.0 + 2 * pair
}

/// Listeners on a command port and its control port.
pub(crate) fn listening_pair() -> (u16, TcpListener, TcpListener) {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    let pair = |_| {
        let port = next_port();
        Some((port, bind(port)?, bind(port + 1)?))
    };
    (0..200).find_map(pair).expect("a free pair of ports")
}

/// Connects with a limit on every wait, so that a broken test fails instead of hanging.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// `TPM2_Startup`.
const STARTUP: u32 = 0x144;

/// CMD_INIT, no flags.
fn initialize(port: u16) {
    assert_eq!(control_command(port, &[0, 0, 0, 2, 0, 0, 0, 0]).unwrap(), [0; 4]);
}

/// Resets and starts the TPM through a connection that is open already.
pub(crate) fn reset(port: u16, give: impl FnOnce(&[u8]) -> Vec<u8>) {
    initialize(port);
    succeeded(give(&frame(0x8001, STARTUP, &[&[0, 0]])));
}

fn control_command(port: u16, command: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port + 1))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(command)?;
    let mut result = vec![0; 4];
    stream.read_exact(&mut result)?;
    Ok(result)
}

fn frame(tag: u16, code: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let size = u32::try_from(10 + body.len()).unwrap();
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &code.to_be_bytes(), &body].concat()
}

/// Sends a command, returns the response.
pub(crate) fn exchange(stream: &mut TcpStream, command: &[u8]) -> Vec<u8> {
    stream.write_all(command).unwrap();
    read_frame(stream).expect("the TPM answers")
}

/// A whole command or response; `None` at the end of the connection.
pub(crate) fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 10];
    stream.read_exact(&mut frame).ok()?;
    let size = u32::from_be_bytes(frame[2..6].try_into().unwrap());
    frame.resize(size.try_into().unwrap(), 0);
    stream.read_exact(&mut frame[10..]).ok()?;
    Some(frame)
}

/// The command code of a command, the response code of a response.
pub(crate) fn code_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[6..10].try_into().unwrap())
}

fn succeeded(response: Vec<u8>) -> Vec<u8> {
    assert_eq!(code_of(&response), 0, "response code {:#x}", code_of(&response));
    response[10..].to_vec()
}

pub(crate) fn pcr(number: u8) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

pub(crate) fn pcrs(numbers: &[u8]) -> BTreeSet<PcrIndex> {
    numbers.iter().copied().map(pcr).collect()
}
