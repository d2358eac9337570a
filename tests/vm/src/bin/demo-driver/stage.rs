//! The victim, the attacker's servers, and the enforcer.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use enforcer_vm_tests::enforcer::Enforcer;
use enforcer_vm_tests::events::{Event, Mark};
use enforcer_vm_tests::servers::{self, Count};
use enforcer_vm_tests::units::{self, Running, UnitFile};
use enforcer_vm_tests::{actor, http, wait};

use crate::attacks::Attack;
use crate::trust::Trust;

/// The vulnerable application.
const APP: &str = "127.0.0.1:8080";
/// nginx.
const NGINX: &str = "127.0.0.1:80";
/// Where the attacker waits for shells.
pub(crate) const SHELL_CATCHER: &str = "127.0.0.1:4444";
/// Where the attacker keeps programs.
pub(crate) const WEB: &str = "127.0.0.1:8000";
/// Where the attacker collects what was stolen.
pub(crate) const HOME: &str = "127.0.0.1:4445";
/// Where the application keeps uploads.
pub(crate) const UPLOADS: &str = "/var/lib/webapp/uploads";

const PROGRAM: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/webapp.py"));
const UNIT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/webapp.service"));
const APP_POLICY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/webapp.toml"));
const NGINX_POLICY: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/nginx.toml"));

/// How long an attacker's shell may take to answer.
const SHELL_LIMIT: Duration = Duration::from_secs(30);

/// Everything but the enforcer.
pub(crate) struct Stage {
    shells: Receiver<String>,
    web: Count,
    home: Count,
    catcher: Count,
    _unit: UnitFile,
    _app: Running,
    _nginx: Running,
}

impl Stage {
    /// Puts everything up, without any policy.
    pub(crate) fn set() -> Self {
        fs::create_dir_all("/opt/webapp").expect("creating the application's directory");
        fs::write("/opt/webapp/webapp.py", PROGRAM).expect("installing the application");
        let implant = fs::read(actor::program()).expect("reading the implant");
        let files = BTreeMap::from([("/implant".to_owned(), implant)]);
        let (_, web) = http::serve(WEB, files).expect("the attacker's web server");
        let (_, home) = servers::tcp(HOME);
        let (shells, catcher) = catch_shells();
        let unit = UnitFile::unit("webapp.service", UNIT);
        let stage = Self {
            shells,
            web,
            home,
            catcher,
            _unit: unit,
            _app: Running::start("webapp.service"),
            _nginx: Running::start("nginx.service"),
        };
        stage.wait_for_services();
        stage
    }

    /// Stops the services.
    pub(crate) fn stop_services(&self) {
        units::tell("stop", "webapp.service");
        units::tell("stop", "nginx.service");
    }

    /// Starts them again.
    pub(crate) fn start_services(&self) {
        units::tell("start", "webapp.service");
        units::tell("start", "nginx.service");
        self.wait_for_services();
    }

    fn wait_for_services(&self) {
        units::wait_for_port(APP);
        units::wait_for_port(NGINX);
    }

    /// The normal pages, and whether they are served.
    pub(crate) fn pages(&self) -> Vec<(String, bool)> {
        let _ = http::post(APP, "/upload?name=notes.txt", b"twelve bytes");
        let page = |name: &str, server: &str, path: &str, text: &str| {
            let answer = http::get(server, path);
            (name.to_owned(), answer.is_ok_and(|answer| answer.status == 200 && answer.body.contains(text)))
        };
        vec![
            page("file store, its page", APP, "/", "Welcome"),
            page("file store, size of a file", APP, "/size?file=notes.txt", "12 "),
            page("nginx, Debian's page", NGINX, "/", "nginx"),
        ]
    }

    /// Sends a command through the hole, and returns what the application answers.
    pub(crate) fn inject(&self, command: &str) -> String {
        let path = format!("/size?file={}", http::escaped(&format!("notes.txt; {command}")));
        match http::get(APP, &path) {
            Ok(answer) => answer.body,
            Err(error) => format!("no answer: {error}"),
        }
    }

    /// Uploads a file the way every user may.
    pub(crate) fn upload(&self, name: &str, content: &[u8]) -> Result<(), String> {
        match http::post(APP, &format!("/upload?name={name}"), content) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("upload failed: {other:?}")),
        }
    }

    /// Uploads the attacker's program.
    pub(crate) fn upload_implant(&self, name: &str) -> Result<(), String> {
        let implant = fs::read(actor::program()).map_err(|error| error.to_string())?;
        self.upload(name, &implant)
    }

    /// Forgets shells that called before; returns how many that were.
    pub(crate) fn expect_shell(&self) -> u64 {
        while self.shells.try_recv().is_ok() {}
        self.catcher.arrivals()
    }

    /// What the caught shell answered, if one called.
    pub(crate) fn shell_said(&self, before: u64) -> Option<String> {
        // The application answers when the shell has ended, so whoever called has called by now.
        if self.catcher.arrivals() == before { None } else { self.shells.recv_timeout(SHELL_LIMIT).ok() }
    }

    /// Connections that brought home what was stolen, and the bytes, so far.
    pub(crate) fn home(&self) -> (u64, u64) {
        (self.home.arrivals(), self.home.bytes())
    }

    /// Bytes that were stolen since. Where a connection has come, its bytes are waited for.
    pub(crate) fn home_bytes_after(&self, (arrivals, before): (u64, u64)) -> u64 {
        if self.home.arrivals() > arrivals && self.home.bytes() == before {
            wait::until("the attacker's server", SHELL_LIMIT, || (self.home.bytes() > before).then_some(()));
        }
        self.home.bytes() - before
    }

    /// Connections and bytes that reached any of the attacker's servers.
    pub(crate) fn reached(&self) -> u64 {
        [&self.web, &self.home, &self.catcher].iter().map(|count| count.arrivals() + count.bytes()).sum()
    }

    /// Removes what the attacker left behind.
    pub(crate) fn clean_up(&mut self) {
        for entry in fs::read_dir(UPLOADS).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Waits for shells, gives each one line to run, and passes on what it says.
fn catch_shells() -> (Receiver<String>, Count) {
    let listener = TcpListener::bind(SHELL_CATCHER).expect("the attacker's shell catcher");
    let (sender, receiver) = channel();
    let count = Count::default();
    let counter = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.count_arrival();
            let text = talk_to_shell(stream).unwrap_or_default();
            counter.count_bytes(text.len());
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    (receiver, count)
}

fn talk_to_shell(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(SHELL_LIMIT))?;
    stream.write_all(b"echo shell-$((6 * 7))\nexit\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The enforcer with both policies.
pub(crate) struct Protection {
    enforcer: std::cell::RefCell<Enforcer>,
    trust: Trust,
}

impl Protection {
    /// Installs the policies.
    pub(crate) fn start() -> Self {
        let mut enforcer = Enforcer::ready();
        let directory = Path::new("/etc/enforcer/policies");
        fs::create_dir_all(directory).expect("creating the policies' directory");
        let write = |name: &str, text: &str| {
            fs::write(directory.join(name), text).expect("writing a policy");
        };
        write("webapp.toml", APP_POLICY);
        write("nginx.toml", NGINX_POLICY);
        // A bundle is the whole set of a machine, that of the demonstration's own policy included.
        let own = fs::read_to_string(enforcer.sentinel_policy()).expect("reading our own policy");
        write("sentinel.toml", &own);
        let trust = Trust::establish(directory);
        trust.apply();
        // What it waits for is its own: the events of what came before are not the attacks'.
        enforcer.barrier();
        Self { enforcer: enforcer.into(), trust }
    }

    /// The chain of trust that the policies hang on.
    pub(crate) const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// All events so far. Before the first attack there should be none.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.enforcer.borrow_mut().events_since(Mark::START)
    }

    /// The place in the log from which an attack's events count.
    pub(crate) fn mark(&self) -> Mark {
        self.enforcer.borrow_mut().mark()
    }

    /// The event that tells of the attack.
    pub(crate) fn event_since(&self, mark: Mark, attack: &Attack) -> Option<Event> {
        let (hook, about) = attack.refused;
        let events = self.enforcer.borrow_mut().events_since(mark);
        events.into_iter().find(|event| {
            event.text("verdict") == "denied" && event.text("hook") == hook && event.about().contains(about)
        })
    }

    /// For the reader of a failure.
    pub(crate) fn evidence(&self) -> String {
        let events = self.enforcer.borrow().log().since(Mark::START);
        let events: String = events.iter().map(|event| format!("{event}\n")).collect();
        format!("--- events\n{events}--- webapp\n{}", units::state("webapp.service"))
    }
}
