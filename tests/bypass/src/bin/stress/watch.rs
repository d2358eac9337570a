//! What kernel and enforcer have to say.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use enforcer_vm_tests::enforcer::Enforcer;
use serde_json::Value;

/// What a kernel says that found something wrong with itself, or was kept from its work.
const COMPLAINTS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops",
    "general protection fault",
    "refcount_t:",
    "UBSAN:",
    "KASAN:",
    "rcu_preempt",
    "rcu_sched",
    "detected stall",
    "soft lockup",
    "blocked for more than",
    "possible recursive locking",
    "possible circular locking",
    "suspicious RCU usage",
    "sleeping function called",
    "scheduling while atomic",
    "Call Trace",
];

/// The kernel's log.
pub(crate) struct Kernel(File);

impl Kernel {
    /// From here on.
    pub(crate) fn from_now() -> Self {
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .expect("opening the kernel's log");
        file.seek(SeekFrom::End(0)).expect("going to its end");
        Self(file)
    }

    /// What it has complained about since the last look.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        // One record each, and a record is no longer.
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]).into_owned();
                    if COMPLAINTS.iter().any(|complaint| text.contains(complaint)) {
                        found.push(format!("the kernel says: {}", text.trim_end()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return found,
                // Overwritten before we came: what was in it, nobody knows.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    found.push("the kernel's log ran over".to_owned());
                }
                Err(error) => panic!("reading the kernel's log: {error}"),
            }
        }
    }
}

/// Policies some of whose processes have lost their label, or are not there. Only those that stay may be running.
pub(crate) fn labels(enforcer: &Enforcer) -> Vec<String> {
    let status = enforcer.status();
    let policies = status["policies"].as_array().cloned().unwrap_or_default();
    let ours = |policy: &&Value| policy["name"].as_str().is_some_and(|name| name.starts_with("stress-"));
    let wrong = |policy: &&Value| {
        policy["unlabelled"].as_u64() != Some(0) || policy["tasks"].as_u64().is_none_or(|tasks| tasks == 0)
    };
    if !policies.iter().any(|policy| ours(&policy)) {
        return vec!["status shows none of our policies".to_owned()];
    }
    policies.iter().filter(ours).filter(wrong).map(|policy| format!("labels are missing: {policy}")).collect()
}
