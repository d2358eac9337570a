//! Those who sign policies, and enrolment, through the command line, as in `docs/trust.md`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::enforcer::{run, shown};

/// What the machine trusts.
pub const ANCHORS: &str = "/etc/enforcer/anchors.toml";

/// PCRs that policies are bound to here: kernel image, Secure Boot, kernel command line and initrd.
const BOUND: &str = "4,7,9";

/// A command that has to work, and what it says.
///
/// # Panics
/// With what it said, when it did not.
pub fn done(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "enforcer {}: {}", arguments.join(" "), shown(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("   $ enforcer {}", arguments.join(" "));
    said.lines().for_each(|line| println!("     {line}"));
    said
}

/// Who signs: keys `ops.key` for policies, `oncall.key` for emergencies, `slot.key` for the TPM's slots. They belong on
/// another machine; here that is a directory.
#[derive(Clone, Debug)]
pub struct Authority {
    office: PathBuf,
    policy: &'static str,
}

impl Authority {
    /// Those who sign this policy, with their keys in this directory.
    #[must_use]
    pub fn at(office: &str, policy: &'static str) -> Self {
        Self { office: office.into(), policy }
    }

    /// A file in the office.
    ///
    /// # Panics
    /// When the office has a name that is no text.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.office.join(name).into_os_string().into_string().expect("a name that is text")
    }

    /// Makes the keys, has the machine trust them, enrols its TPM, and notes the state that it booted into.
    ///
    /// # Panics
    /// When one of these steps fails.
    pub fn establish(&self, state: &str) {
        fs::create_dir_all(&self.office).expect("a directory for keys");
        for key in ["ops.key", "oncall.key", "slot.key"] {
            let _ = done(&["key", "gen", &self.file(key)]);
        }
        let _ = fs::remove_file(ANCHORS);
        let ops = format!("ops={}", self.file("ops.key.pub"));
        let on_call = format!("oncall={}", self.file("oncall.key.pub"));
        let slot = self.file("slot.key");
        let keys = ["--key", &ops, "--break-glass-key", &on_call, "--slot-key", &slot];
        let _ = done(&[&["anchors", "--policy", self.policy, "--output", ANCHORS][..], &keys].concat());
        let _ = done(&["tpm", "enroll"]);
        let _ = done(&["pcr", "capture", "--output", state]);
    }

    /// Signs what lies in a directory, for states `LABEL=FILE`. `more` may say more, such as another key.
    ///
    /// # Panics
    /// When that fails.
    pub fn sign(&self, policies: &Path, version: u64, states: &[&str], more: &[&str]) {
        let (version, directory) = (version.to_string(), policies.to_string_lossy());
        let (ops, slot) = (self.file("ops.key"), self.file("slot.key"));
        let mut arguments = vec!["sign", &directory, "--policy", self.policy, "--version", &version];
        arguments.extend(["--slot-key", &slot]);
        arguments.extend(states.iter().flat_map(|state| ["--bind", state]));
        if !more.contains(&"--break-glass") {
            arguments.extend(["--pcr", BOUND, "--key", &ops]);
        }
        arguments.extend(more);
        let _ = done(&arguments);
    }

    /// Makes the keys usable again after they were copied from machine to machine, which does not keep modes.
    ///
    /// # Panics
    /// When that fails.
    pub fn repair(&self) {
        for key in ["ops.key", "slot.key", "oncall.key"].map(|name| self.office.join(name)) {
            if key.exists() {
                fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("setting a mode");
            }
        }
    }
}

/// Who signs for machines without a TPM, and says what becomes of the seal. Such machines remember which version they had last,
/// so versions go on from test to test.
#[derive(Clone, Debug)]
pub struct Sealer {
    office: PathBuf,
}

impl Sealer {
    /// The name of a bundle that was delivered.
    pub const BUNDLE: &str = "seal.pcrsig.json";

    /// Who keeps their key in this directory. It is made if it is not there.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn at(office: PathBuf) -> Self {
        let sealer = Self { office };
        fs::create_dir_all(sealer.policies()).expect("a directory for policies");
        if !sealer.office.join("ops.key").exists() {
            let _ = done(&["key", "gen", &sealer.file("ops.key")]);
        }
        sealer
    }

    /// Where the policies are that are signed.
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.office.join("policies")
    }

    /// Writes anchors that trust the key.
    ///
    /// # Panics
    /// When that fails.
    pub fn write_anchors(&self, to: &str) {
        let key = format!("ops={}", self.file("ops.key.pub"));
        let _ = done(&["anchors", "--policy", "seal", "--no-tpm", "--key", &key, "--output", to]);
    }

    /// Signs the policies, with this about the seal. The next version.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn sign(&self, seal: Option<&str>) -> u64 {
        static VERSION: AtomicU64 = AtomicU64::new(1);
        let version = VERSION.fetch_add(1, Ordering::Relaxed);
        self.sign_as(version, seal);
        version
    }

    /// The same as a version of one's own choice.
    ///
    /// # Panics
    /// When that fails.
    pub fn sign_as(&self, version: u64, seal: Option<&str>) {
        let [policies, key, bundle] = ["policies", "ops.key", &bundle(version)].map(|name| self.file(name));
        let version = version.to_string();
        let mut arguments = vec!["sign", &policies, "--policy", "seal", "--version", &version, "--no-tpm"];
        arguments.extend(["--key", &key, "--output", &bundle]);
        arguments.extend(seal.iter().flat_map(|seal| ["--seal", seal]));
        let _ = done(&arguments);
    }

    /// Puts the policies and the bundle of a version where a daemon takes them from.
    ///
    /// # Panics
    /// When that fails.
    pub fn deliver(&self, version: u64, to: &Path) {
        for policy in fs::read_dir(self.policies()).expect("a directory of policies") {
            let policy = policy.expect("a policy");
            let _ = fs::copy(policy.path(), to.join(policy.file_name())).expect("delivering a policy");
        }
        let _ =
            fs::copy(self.office.join(bundle(version)), to.join(Self::BUNDLE)).expect("delivering a bundle");
    }

    fn file(&self, name: &str) -> String {
        self.office.join(name).into_os_string().into_string().expect("a name that is text")
    }
}

fn bundle(version: u64) -> String {
    format!("{version}.pcrsig.json")
}
