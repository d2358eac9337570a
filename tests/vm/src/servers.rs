//! Servers on loopback that count what reaches them: the attacker's end of the line.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::wait;

/// What has arrived so far.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    arrivals: AtomicU64,
    bytes: AtomicU64,
    /// Connections that have come to their end.
    ended: AtomicU64,
}

impl Count {
    /// Connections or datagrams.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.0.arrivals.load(Ordering::SeqCst)
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::SeqCst)
    }

    /// Counts a connection or datagram.
    pub fn count_arrival(&self) {
        self.0.arrivals.fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::SeqCst)
    }

    /// Counts bytes.
    pub fn count_bytes(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    }
}

/// The servers, each on a free port of 127.0.0.1 and ::1.
///
/// Their threads live as long as the process: a test process is short, and a blocked `accept` has no polite end.
#[derive(Debug)]
pub struct Servers {
    addresses: Vec<(&'static str, SocketAddr, Count)>,
    /// How many connections and datagrams were our own.
    own: AtomicU64,
}

impl Servers {
    /// Starts them.
    ///
    /// # Panics
    /// When loopback is not up.
    #[must_use]
    pub fn start() -> Self {
        let tcp = |name, at: &str| {
            let (address, count) = tcp(at);
            (name, address, count)
        };
        let udp = |name, at: &str| {
            let (address, count) = udp(at);
            (name, address, count)
        };
        let addresses = vec![
            tcp("tcp4", "127.0.0.1:0"),
            tcp("tcp6", "[::1]:0"),
            udp("udp4", "127.0.0.1:0"),
            udp("udp6", "[::1]:0"),
            // Nobody has business here: where connected sockets are redirected to.
            udp("decoy4", "127.0.0.1:0"),
        ];
        Self { addresses, own: AtomicU64::new(0) }
    }

    fn entry(&self, name: &str) -> &(&'static str, SocketAddr, Count) {
        self.addresses.iter().find(|(known, ..)| *known == name).unwrap_or_else(|| panic!("no server {name}"))
    }

    /// The address of one: `tcp4`, `tcp6`, `udp4`, `udp6` or `decoy4`.
    #[must_use]
    pub fn address(&self, name: &str) -> SocketAddr {
        self.entry(name).1
    }

    /// Its counters.
    #[must_use]
    pub fn count(&self, name: &str) -> &Count {
        &self.entry(name).2
    }

    /// Replaces `{tcp4}` and the like by addresses, `{tcp4-mapped}` by the v4-mapped form, `{tcp4-port}` by the port.
    #[must_use]
    pub fn fill_in(&self, text: &str) -> String {
        self.addresses.iter().fold(text.to_owned(), |text, (name, address, _)| {
            text.replace(&format!("{{{name}}}"), &address.to_string())
                .replace(&format!("{{{name}-mapped}}"), &format!("[::ffff:127.0.0.1]:{}", address.port()))
                .replace(&format!("{{{name}-port}}"), &address.port().to_string())
        })
    }

    fn total(&self) -> u64 {
        self.addresses.iter().map(|(_, _, count)| count.arrivals() + count.bytes()).sum()
    }

    /// Everything that has arrived anywhere, once all that was sent before this call has been counted, without our own
    /// part in it.
    ///
    /// Loopback delivers in order: when our own connection and datagram have been counted at a server, so has
    /// whatever was there before them. Of connections, we wait for the end.
    #[must_use]
    pub fn settled_total(&self) -> u64 {
        for (name, address, count) in &self.addresses {
            let before = count.arrivals();
            match TcpOrUdp::of(name) {
                TcpOrUdp::Tcp => drop(TcpStream::connect(address).expect("connecting to our own server")),
                TcpOrUdp::Udp => {
                    let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
                    let socket = UdpSocket::bind(any).expect("binding a datagram socket");
                    socket.send_to(b"", address).expect("sending to our own server");
                }
            }
            self.own.fetch_add(1, Ordering::SeqCst);
            let is_tcp = matches!(TcpOrUdp::of(name), TcpOrUdp::Tcp);
            wait::until("our own packet", wait::SOON, || {
                let settled = !is_tcp || count.ended() == count.arrivals();
                (count.arrivals() > before && settled).then_some(())
            });
        }
        self.total() - self.own.load(Ordering::SeqCst)
    }
}

enum TcpOrUdp {
    Tcp,
    Udp,
}

impl TcpOrUdp {
    fn of(name: &str) -> Self {
        if name.starts_with("tcp") { Self::Tcp } else { Self::Udp }
    }
}

/// Starts a TCP server that counts connections and bytes.
///
/// # Panics
/// When the address cannot be had.
#[must_use]
pub fn tcp(at: &str) -> (SocketAddr, Count) {
    let listener = TcpListener::bind(at).expect("binding a TCP server");
    let address = listener.local_addr().expect("a bound socket has an address");
    let count = Count::default();
    let counter = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let counter = counter.clone();
            counter.count_arrival();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                // A client that neither speaks nor leaves must not keep the thread for ever.
                let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    counter.count_bytes(length);
                }
                counter.0.ended.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (address, count)
}

/// Starts a UDP server that counts datagrams and bytes.
///
/// # Panics
/// When the address cannot be had.
#[must_use]
pub fn udp(at: &str) -> (SocketAddr, Count) {
    let socket = UdpSocket::bind(at).expect("binding a UDP server");
    let address = socket.local_addr().expect("a bound socket has an address");
    let count = Count::default();
    let counter = count.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            counter.count_arrival();
            counter.count_bytes(length);
        }
    });
    (address, count)
}

fn unix_address(name: &str) -> std::os::unix::net::SocketAddr {
    match name.strip_prefix('@') {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name),
        None => std::os::unix::net::SocketAddr::from_pathname(name),
    }
    .expect("a unix socket name")
}

/// Starts a unix stream server (`@name` for an abstract name) that counts connections.
///
/// # Panics
/// When the name cannot be had.
#[must_use]
pub fn unix_stream(name: &str) -> Count {
    let listener = UnixListener::bind_addr(&unix_address(name)).expect("binding a unix server");
    let count = Count::default();
    let counter = count.clone();
    std::thread::spawn(move || {
        while listener.accept().is_ok() {
            counter.count_arrival();
        }
    });
    count
}

/// Starts a unix datagram server that counts datagrams.
///
/// # Panics
/// When the name cannot be had.
#[must_use]
pub fn unix_datagram(name: &str) -> Count {
    let socket = UnixDatagram::bind_addr(&unix_address(name)).expect("binding a unix server");
    let count = Count::default();
    let counter = count.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(length) = socket.recv(&mut buffer) {
            counter.count_arrival();
            counter.count_bytes(length);
        }
    });
    count
}

/// Starts a unix stream server that answers every connection with a descriptor that `open` makes, as `SCM_RIGHTS`.
///
/// # Panics
/// When the name cannot be had.
pub fn descriptor_giver(name: &str, open: impl Fn() -> Option<OwnedFd> + Send + 'static) {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    let listener = UnixListener::bind_addr(&unix_address(name)).expect("binding a unix server");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), Some(given)) = (stream, open()) else { break };
            let fds = [given.as_raw_fd()];
            let parts = [std::io::IoSlice::new(b"!")];
            let rights = [ControlMessage::ScmRights(&fds)];
            let _ = sendmsg::<UnixAddr>(stream.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None);
        }
    });
}
