//! Making the kernel start a helper, and evidence that it did.
//!
//! `modprobe` is started by the kernel itself, as root and outside every workload. [`watch`] (run by the host) puts a
//! script in its place that notes what was asked for.

use std::fs;
use std::path::Path;

use enforcer_vm_tests::report::{Failure, Outcome};
use enforcer_vm_tests::scenario::make_executable;

/// Where the script leaves its notes.
const NOTES: &str = "/tmp/vm-tests/modules-asked-for";

/// Has every request for a module noted, and old notes removed.
pub(crate) fn watch(_: &Path) {
    let _ = fs::remove_dir_all(NOTES);
    fs::create_dir_all(NOTES).expect("creating a directory for notes");
    let helper = Path::new(NOTES).join("modprobe");
    // The kernel calls `modprobe -q -- NAME`. What was asked for is still loaded: other tests need it.
    let script = format!("#!/bin/sh\n: > \"{NOTES}/$3\"\nexec /sbin/modprobe \"$@\"\n");
    make_executable(&helper, script.as_bytes());
    fs::write("/proc/sys/kernel/modprobe", helper.to_str().expect("the path is text"))
        .expect("setting the kernel's modprobe");
}

/// Success if the kernel has asked for this module, else the error that the attempt ended with.
pub(crate) fn was_asked_for(module: &str, attempt: &Outcome) -> Outcome {
    // A look at metadata, which needs no rule.
    if Path::new(NOTES).join(module).exists() {
        return Ok(format!("the kernel started modprobe for {module}"));
    }
    let errno = attempt.as_ref().err().map_or(libc::ENODATA, |failure| failure.errno);
    Err(Failure { step: format!("nobody asked for {module}"), errno })
}
