//! The chain of trust in the demonstration: keys, enrolment, a signed bundle, evidence, and what is refused.
//!
//! Everything goes through the enforcer's command line, as in `docs/trust.md`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use enforcer_vm_tests::{
    enforcer::{run, shown},
    trust::{ANCHORS, Authority, done},
};

/// Where keys are kept; in earnest on another machine.
const OFFICE: &str = "/tmp/office";
/// What leaves the machine: evidence, and what it is verified with.
pub(crate) const SHARE: &str = "/share";
/// The nonce that the other side chose.
const NONCE: &str = "/share/nonce";

/// A machine whose policies are signed.
pub(crate) struct Trust {
    policies: PathBuf,
    authority: Authority,
}

impl Trust {
    /// Makes keys, enrols the TPM, signs the policies in a directory for the state that this machine booted into.
    pub(crate) fn establish(policies: &Path) -> Self {
        let authority = Authority::at(OFFICE, "demo");
        authority.establish(&authority.file("state.json"));
        let trust = Self { policies: policies.to_owned(), authority };
        trust.sign(policies, 2);
        trust
    }

    fn sign(&self, policies: &Path, version: u64) {
        let state = format!("today={}", self.authority.file("state.json"));
        self.authority.sign(policies, version, &[&state], &[]);
    }

    /// Puts the signed policies in force.
    pub(crate) fn apply(&self) {
        let _ = done(&["apply", "--prune", &self.policies.to_string_lossy()]);
    }

    /// Tries what an attacker with the policies' directory would try. True if each was refused for its reason.
    pub(crate) fn refuses(&self) -> bool {
        let tampered = self.copy("tampered");
        let policy = tampered.join("webapp.toml");
        let text = fs::read_to_string(&policy).expect("the policy");
        fs::write(&policy, text.replacen("[exec]", "# more\n[exec]", 1)).expect("a changed policy");
        let old = self.copy("old");
        fs::remove_file(old.join("demo.pcrsig.json")).expect("the bundle");
        self.sign(&old, 1);
        let unsigned = self.copy("unsigned");
        fs::remove_file(unsigned.join("demo.pcrsig.json")).expect("the bundle");
        let refused = [
            ("a tampered policy", refused(&tampered, "is not what was signed")),
            ("an older version, validly signed", refused(&old, "is older")),
            ("policies without signatures", refused(&unsigned, "are not signed")),
        ];
        for (what, said) in &refused {
            match said {
                Ok(line) => println!("   {what:34} refused  {line}"),
                Err(how) => println!("   {what:34} NOT REFUSED  {how}"),
            }
        }
        refused.iter().all(|(_, said)| said.is_ok())
    }

    /// Leaves evidence for whoever looks from outside.
    pub(crate) fn attest(&self) {
        let nonce = fs::read_to_string(NONCE).expect("the other side's nonce");
        let _ = done(&["attest", "--nonce", nonce.trim(), "--output", &format!("{SHARE}/evidence.json")]);
        fs::copy(ANCHORS, format!("{SHARE}/anchors.toml")).expect("the anchors, as noted at enrolment");
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = Path::new(OFFICE).join(name);
        fs::create_dir_all(&to).expect("a directory");
        for entry in fs::read_dir(&self.policies).expect("the policies").flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copying a policy");
        }
        to
    }
}

/// What was said when it was refused.
fn refused(policies: &Path, because: &str) -> Result<String, String> {
    let output = run(&["apply", "--prune", &policies.to_string_lossy()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find(|line| line.contains(because));
    match line {
        Some(line) if !output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(shown(&output)),
    }
}
