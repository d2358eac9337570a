//! The node: containerd, and the plugin in the unit that is shipped.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use enforcer_vm_tests::actor::installed;
use enforcer_vm_tests::enforcer::SCRATCH;
use enforcer_vm_tests::units::{self, UnitFile};
use enforcer_vm_tests::wait;

use super::{cri, image};

/// Debian's unit, with a configuration of ours.
pub(crate) const CONTAINERD: &str = "containerd.service";
const PLUGIN: &str = "enforcer-nri.service";
const PLUGIN_UNIT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/enforcer-nri.service"));

/// How long containerd waits for the plugin: two seconds are little on an emulated processor.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(8);

/// How long something may take to come up.
const A_WHILE: Duration = Duration::from_secs(60);

/// Makes sure that containerd runs and has the images.
pub(crate) fn ready() {
    static READY: OnceLock<[UnitFile; 3]> = OnceLock::new();
    READY.get_or_init(|| {
        fs::create_dir_all(SCRATCH).unwrap();
        install_packages();
        let configuration = format!("{SCRATCH}/containerd.toml");
        let text = CONFIGURATION.replace("TIMEOUT", &TIMEOUT.as_secs().to_string());
        fs::write(&configuration, text.replace("BY_SYSTEMD", &cgroups_are_systemd_s().to_string())).unwrap();
        let containerd = UnitFile::drop_in(
            CONTAINERD,
            &format!("[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config {configuration}\n"),
        );
        fs::copy(installed("enforcer-nri"), "/usr/bin/enforcer-nri").unwrap();
        let plugin = UnitFile::unit(PLUGIN, PLUGIN_UNIT);
        let options = UnitFile::drop_in(
            PLUGIN,
            &format!("[Service]\nEnvironment=\"ENFORCER_NRI_OPTIONS=--timeout {}\"\n", TIMEOUT.as_secs()),
        );
        restart();
        image::import();
        [containerd, plugin, options]
    });
}

/// Installs the packages in the directory that `ENFORCER_VM_PACKAGES` names: other versions of containerd and runc than the
/// guest has.
fn install_packages() {
    if let Some(directory) = std::env::var_os("ENFORCER_VM_PACKAGES") {
        let packages = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let packages: Vec<_> =
            packages.filter(|file| file.extension().is_some_and(|extension| extension == "deb")).collect();
        assert!(!packages.is_empty(), "no packages to install");
        image::run(Command::new("dpkg").args(["--force-confnew", "--install"]).args(packages));
    }
    for program in ["containerd", "runc"] {
        let version = image::run(Command::new(program).arg("--version"));
        println!("{}", version.lines().next().unwrap_or_default());
    }
}

/// Whether systemd makes the containers' cgroups (`ENFORCER_VM_CGROUP_DRIVER=systemd`) and not runc itself.
pub(crate) fn cgroups_are_systemd_s() -> bool {
    std::env::var_os("ENFORCER_VM_CGROUP_DRIVER").is_some_and(|driver| driver == "systemd")
}

const CONFIGURATION: &str = r#"version = 2

[plugins."io.containerd.nri.v1.nri"]
disable = false
plugin_registration_timeout = "TIMEOUTs"
plugin_request_timeout = "TIMEOUTs"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = BY_SYSTEMD
"#;

/// Starts containerd, or starts it anew, and waits until it answers.
pub(crate) fn restart() {
    units::tell("restart", CONTAINERD);
    wait::until("containerd", A_WHILE, || cri::is_ready().then_some(()));
}

/// The plugin, stopped when this is dropped.
pub(crate) struct Plugin;

impl Plugin {
    /// Starts it, and waits until containerd has taken it in.
    pub(crate) fn start() -> Self {
        units::tell("start", PLUGIN);
        let plugin = Self;
        plugin.wait_until_connected();
        plugin
    }

    /// Waits until containerd has taken it in.
    pub(crate) fn wait_until_connected(&self) {
        wait::until("the plugin to be connected", A_WHILE, || self.is_connected().then_some(()));
    }

    /// Whether containerd has taken it in, by its own word.
    pub(crate) fn is_connected(&self) -> bool {
        units::property(PLUGIN, "StatusText").starts_with("connected to containerd")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let output = units::systemctl(&["kill", &format!("--signal={signal}"), PLUGIN]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        units::property(PLUGIN, "MainPID").parse().unwrap()
    }

    /// Waits until its process stands still.
    pub(crate) fn wait_until_stopped(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        wait::until("the plugin to stand still", A_WHILE, || {
            let stat = fs::read_to_string(Path::new(&stat)).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('T').then_some(())
        });
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // One that stands still would not hear that it is to end.
        let _ = units::systemctl(&["kill", "--signal=KILL", PLUGIN]);
        let _ = units::systemctl(&["stop", PLUGIN]);
        let _ = units::systemctl(&["reset-failed", PLUGIN]);
    }
}
