//! What is in the containers, and what their policies are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use enforcer_vm_tests::actor;
use enforcer_vm_tests::enforcer::SCRATCH;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::report::Report;
use enforcer_vm_tests::scenario::copy_of_actor;

/// The program that policies of these tests list.
pub(crate) const ACTOR: &str = "/bin/actor";
/// One that none lists.
pub(crate) const EVIL: &str = "/bin/evil";

/// The file tree of an image, made anew.
pub(crate) fn tree(name: &str) -> PathBuf {
    let root = PathBuf::from(SCRATCH).join(name);
    let _ = fs::remove_dir_all(&root);
    for directory in ["bin", "usr/bin", "usr/sbin", "etc", "proc", "sys", "dev", "vol", "scratch", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    // The last two lie where the host's launchers lie.
    for program in [ACTOR, EVIL, "/usr/bin/crun", "/usr/sbin/runc"] {
        copy_of_actor(&inside(&root, program));
    }
    fs::write(root.join("etc/listed"), "listed").unwrap();
    fs::write(root.join("etc/secret"), "secret").unwrap();
    root
}

/// A path in a tree.
pub(crate) fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The base policy of all containers of this suite. It lists nothing at all.
pub(crate) fn base() -> Policy {
    Policy::bare("base", "container-roots", "podman")
}

/// A policy for the container with this name.
pub(crate) fn named(name: &str) -> Policy {
    Policy::bare(name, "container.name", name).allow("exec.allow", ACTOR).allow("file.read", "/etc/listed")
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// What the actor in the container reported, if it started.
pub(crate) fn report(output: &Output) -> Option<Report> {
    String::from_utf8_lossy(&output.stdout).lines().find_map(|line| serde_json::from_str(line).ok())
}

/// That the actor started, and what it reported.
pub(crate) fn reported(output: &Output) -> Report {
    report(output).unwrap_or_else(|| panic!("the actor did not start: {output:?}"))
}

/// That the runtime was told to do it and the container's program was refused, or the whole container was.
pub(crate) fn assert_never_ran(output: &Output) {
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(report(output), None, "{output:?}");
}

/// The OCI hook.
pub(crate) fn hook() -> String {
    actor::installed("enforcer-oci-hook").to_string_lossy().into_owned()
}
