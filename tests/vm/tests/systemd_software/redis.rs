//! Debian's Redis, as its own unit runs it, under `policy-examples/redis.toml`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use enforcer_common::verdict::Family;
use enforcer_vm_tests::enforcer::{Enforcer, baseline_only};
use enforcer_vm_tests::servers;
use enforcer_vm_tests::service::{assert_no_denials, assert_refused, policy_file};
use enforcer_vm_tests::units::{self, Running, UnitFile};
use enforcer_vm_tests::wait;

const UNIT: &str = "redis-server.service";
const SERVER: &str = "127.0.0.1:6379";
const POLICY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/redis.toml"));
const KEYS: usize = 300;

/// The append-only file, too, which Debian leaves off.
const DROP_IN: &str = "\
[Service]
ExecStart=
ExecStart=/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no --appendonly yes
";

/// A connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect() -> Self {
        let stream = TcpStream::connect(SERVER).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends one command and returns the answer: a line, or the text that it announces.
    fn tell(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let Some(length) = line.strip_prefix('$').and_then(|length| length.trim().parse::<usize>().ok())
        else {
            return line.trim_end().into();
        };
        let mut text = vec![0; length + 2];
        self.0.read_exact(&mut text).unwrap();
        String::from_utf8_lossy(&text).trim_end().into()
    }

    /// Waits until `INFO persistence` has all these lines.
    fn wait_for(&mut self, lines: &[&str]) {
        wait::until(&format!("{lines:?} in INFO"), wait::SOON, || {
            let info = self.tell("INFO persistence");
            lines.iter().all(|line| info.lines().any(|said| said == *line)).then_some(())
        });
    }

    fn assert_filled(&mut self) {
        for key in 0..KEYS {
            assert_eq!(self.tell(&format!("GET key-{key}")), format!("value-{key}"));
        }
    }
}

/// Fills it, has it write a snapshot and a new append-only file from forked children, and starts it anew.
fn use_for_real() {
    let mut client = Client::connect();
    for key in 0..KEYS {
        assert_eq!(client.tell(&format!("SET key-{key} value-{key}")), "+OK");
    }
    client.assert_filled();
    assert_eq!(client.tell("BGSAVE"), "+Background saving started");
    client.wait_for(&["rdb_bgsave_in_progress:0", "rdb_last_bgsave_status:ok", "rdb_saves:1"]);
    let rewriting = client.tell("BGREWRITEAOF");
    assert!(rewriting.starts_with("+Background append only file rewriting"), "{rewriting}");
    client.wait_for(&["aof_rewrite_in_progress:0", "aof_last_bgrewrite_status:ok", "aof_rewrites:1"]);
    assert_eq!(client.tell("SET after-rewrite yes"), "+OK");
    drop(client);
    units::tell("restart", UNIT);
    let mut client = Client::connect();
    client.assert_filled();
    assert_eq!(client.tell("GET after-rewrite"), "yes");
}

#[test]
fn redis_keeps_its_data_and_follows_no_other_master() {
    let mut enforcer = Enforcer::ready();
    let _drop_in = UnitFile::drop_in(UNIT, DROP_IN);
    let (attacker, calls) = servers::tcp("127.0.0.1:0");
    // The attack on Redis: make it a replica of a server that then sends it a module.
    let follow = format!("REPLICAOF {} {}", attacker.ip(), attacker.port());
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    let _redis = Running::start(UNIT);
    {
        let mut client = Client::connect();
        assert_eq!(client.tell(&follow), "+OK");
        wait::until("Redis at its new master", wait::SOON, || (calls.arrivals() > 0).then_some(()));
        assert_eq!(client.tell("REPLICAOF NO ONE"), "+OK");
    }
    if baseline_only() {
        return;
    }
    let mark = enforcer.mark();
    enforcer.apply_files(&[policy_file("redis", POLICY)]);
    units::tell("restart", UNIT);
    use_for_real();
    assert_no_denials(&mut enforcer, mark, "of Redis");

    let mark = enforcer.mark();
    let before = calls.arrivals();
    let mut client = Client::connect();
    assert_eq!(client.tell(&follow), "+OK");
    // It tries again every second.
    wait::until("a refused call", wait::SOON, || {
        enforcer
            .log()
            .since(mark)
            .iter()
            .any(|event| event.text("family") == Family::Network.name())
            .then_some(())
    });
    assert_eq!(client.tell("REPLICAOF NO ONE"), "+OK");
    let port = attacker.port().to_string();
    let tries = enforcer.events_since(mark).len();
    assert_refused(&mut enforcer, mark, UNIT, &vec![(Family::Network, port.as_str()); tries]);
    assert_eq!(calls.arrivals(), before, "a connection arrived");
    client.assert_filled();
}
