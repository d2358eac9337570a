//! Somebody between us and the TPM, who sees and changes what passes.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use enforcer::tpm::Tcti;

use super::emulator::{Emulator, code_of, connect, exchange, listening_pair, read_frame};

/// Passes commands to an emulator and lets a judge meddle.
pub(crate) struct Interposer {
    port: u16,
    seen: Arc<Mutex<Vec<u32>>>,
    /// The client that is being served, who may never hang up.
    client: Arc<Mutex<Option<TcpStream>>>,
    threads: Vec<JoinHandle<()>>,
}

/// The way to the real TPM, which serves one connection at a time: made when it is first needed.
pub(crate) struct Upstream {
    port: u16,
    stream: Option<TcpStream>,
    gone: bool,
}

impl Upstream {
    pub(crate) fn give(&mut self, command: &[u8]) -> Vec<u8> {
        exchange(self.stream.get_or_insert_with(|| connect(self.port)), command)
    }

    /// Ends the client's connection instead of answering, as a TPM does that is gone.
    pub(crate) fn hang_up(&mut self) -> Vec<u8> {
        self.gone = true;
        Vec::new()
    }
}

impl Interposer {
    /// Serves connections one after the other. `judge` gets each command and gives the response.
    pub(crate) fn start(
        emulator: &Emulator,
        mut judge: impl FnMut(&[u8], &mut Upstream) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let (port, listener, control) = listening_pair();
        let real = emulator.port();
        let pass_control = move || {
            for client in control.incoming() {
                let mut client = client.unwrap();
                // Requests are small and come whole; a request of no bytes is the end of the connection.
                let mut request = [0; 64];
                let mut upstream = None;
                while let Ok(len @ 1..) = client.read(&mut request) {
                    if request[..len] == FAREWELL.to_be_bytes() {
                        return;
                    }
                    // A TPM that is gone does not answer here either.
                    let Some(upstream) = upstream
                        .take()
                        .or_else(|| TcpStream::connect((Ipv4Addr::LOCALHOST, real + 1)).ok())
                        .map(|stream| upstream.insert(stream))
                    else {
                        break;
                    };
                    let mut answer = [0; 64];
                    // Nor one that is killed right now.
                    let asked = upstream.write_all(&request[..len]);
                    let Ok(len) = asked.and_then(|()| upstream.read(&mut answer)) else { break };
                    if client.write_all(&answer[..len]).is_err() {
                        break;
                    }
                }
            }
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let serving = Arc::new(Mutex::new(None));
        let current = Arc::clone(&serving);
        let serve = move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                *serving.lock().unwrap() = Some(client.try_clone().unwrap());
                let mut upstream = Upstream { port: real, stream: None, gone: false };
                while let Some(command) = read_frame(&mut client) {
                    if code_of(&command) == FAREWELL {
                        return;
                    }
                    noted.lock().unwrap().push(code_of(&command));
                    let response = judge(&command, &mut upstream);
                    if upstream.gone {
                        // The copy that is kept for the end holds the connection open otherwise.
                        client.shutdown(Shutdown::Both).unwrap();
                        break;
                    }
                    if client.write_all(&response).is_err() {
                        break;
                    }
                }
            }
        };
        Self { port, seen, client: current, threads: vec![thread::spawn(serve), thread::spawn(pass_control)] }
    }

    pub(crate) fn tcti(&self) -> Tcti {
        Tcti::Swtpm { port: self.port }
    }

    /// How often a command with this code came by.
    pub(crate) fn count(&self, code: u32) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| **seen == code).count()
    }
}

/// A command code that no TPM has, and no emulator: ends the interposer.
const FAREWELL: u32 = u32::MAX;

impl Drop for Interposer {
    fn drop(&mut self) {
        if let Ok(mut client) = self.client.lock()
            && let Some(client) = client.take()
        {
            // Fails if the client hung up.
            let _ = client.shutdown(Shutdown::Both);
        }
        let farewell = [&[0x80, 1, 0, 0, 0, 10][..], &FAREWELL.to_be_bytes()].concat();
        // Does not matter if a thread has ended already.
        for (port, farewell) in [(self.port, &farewell[..]), (self.port + 1, &FAREWELL.to_be_bytes())] {
            if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                let _ = stream.write_all(farewell);
            }
        }
        for thread in self.threads.drain(..) {
            let judged = thread.join();
            // A judge's failed assertion is the test's, unless that failed already.
            if !thread::panicking() {
                judged.expect("the interposer's judge does not panic");
            }
        }
    }
}
