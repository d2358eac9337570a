//! Units of systemd.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::wait;

/// `systemctl`, with its output.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn systemctl(arguments: &[&str]) -> Output {
    Command::new("systemctl").args(arguments).stdin(Stdio::null()).output().expect("running systemctl")
}

/// `systemctl VERB UNIT`, which must succeed.
///
/// # Panics
/// With the unit's state and log when it does not.
pub fn tell(verb: &str, unit: &str) {
    let output = systemctl(&[verb, unit]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "systemctl {verb} {unit}: {said}\n{}", state(unit));
}

/// What systemd and the journal know about a unit.
#[must_use]
pub fn state(unit: &str) -> String {
    let status = systemctl(&["status", "--no-pager", "--full", unit]);
    let journal = Command::new("journalctl").args(["-b", "--no-pager", "-n", "40", "-u", unit]).output();
    let journal = journal.map_or_else(|error| error.to_string().into_bytes(), |output| output.stdout);
    format!("{}{}", String::from_utf8_lossy(&status.stdout), String::from_utf8_lossy(&journal))
}

/// Whether a unit is active.
#[must_use]
pub fn is_active(unit: &str) -> bool {
    systemctl(&["is-active", "--quiet", unit]).status.success()
}

/// One property of a unit.
#[must_use]
pub fn property(unit: &str, name: &str) -> String {
    let output = systemctl(&["show", "--property", name, "--value", unit]);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A file below `/run/systemd/system`, gone when this is dropped.
#[derive(Debug)]
pub struct UnitFile(PathBuf);

impl UnitFile {
    /// Creates a unit.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn unit(name: &str, text: &str) -> Self {
        Self::create(name, text)
    }

    /// Creates a drop-in for a unit.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn drop_in(unit: &str, text: &str) -> Self {
        Self::create(&format!("{unit}.d/90-test.conf"), text)
    }

    /// Changes a unit further: as [`UnitFile::drop_in`], beside it.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn second_drop_in(unit: &str, text: &str) -> Self {
        Self::create(&format!("{unit}.d/95-test.conf"), text)
    }

    fn create(name: &str, text: &str) -> Self {
        let file = PathBuf::from("/run/systemd/system").join(name);
        fs::create_dir_all(file.parent().unwrap_or(&file)).expect("creating the unit's directory");
        fs::write(&file, text).expect("writing a unit");
        reload();
        Self(file)
    }
}

impl Drop for UnitFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = systemctl(&["daemon-reload"]);
    }
}

fn reload() {
    assert!(systemctl(&["daemon-reload"]).status.success(), "systemctl daemon-reload");
}

/// A unit that is stopped, and its failure forgotten, when this is dropped.
#[derive(Debug)]
pub struct Running(pub &'static str);

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// With its log when it does not start.
    #[must_use]
    pub fn start(unit: &'static str) -> Self {
        tell("start", unit);
        Self(unit)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = systemctl(&["stop", self.0]);
        let _ = systemctl(&["reset-failed", self.0]);
    }
}

/// Waits until something answers there.
pub fn wait_for_port(address: &str) {
    wait::until(&format!("a server at {address}"), wait::SOON * 2, || {
        std::net::TcpStream::connect(address).ok()
    });
}
