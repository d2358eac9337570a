//! Who is a launcher outside the host's mount namespace: services of the host that were given one of their own, and nobody
//! who looks like one.
//!
//! Everybody here starts the very file that the host's launchers are, under its own name, before they are under any policy,
//! and then joins a workload. Only one who sees files where the host has them is believed.

use std::fs;
use std::process::{Command, Output, Stdio};

use enforcer_vm_tests::actor::{installed, program};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;

/// Runs a script of the host's. `"$@"` is what launches the actor in the cgroup, after set-up work that its policy does not
/// allow: status 72 says that this work was judged.
fn launch(script: &str, cgroup: &Cgroup) -> Output {
    let setup = format!("{SCRATCH}/launchers-set-up");
    fs::create_dir_all(SCRATCH).unwrap();
    fs::write(&setup, "").unwrap();
    Command::new("sh")
        .args(["-euc", script, "sh"])
        .arg(installed("launcher"))
        .arg(cgroup.directory())
        .args(["--touch", &setup, "--", &program(), "true"])
        .env("ROOT", format!("{SCRATCH}/launchers-root"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn assert_status(script: &str, cgroup: &Cgroup, expected: i32) {
    let output = launch(script, cgroup);
    assert_eq!(output.status.code(), Some(expected), "{script}\n{output:?}");
}

/// As systemd makes them for `PrivateTmp=` and the like: a copy of the host's mounts, some of them changed.
const SERVICES: &[&str] = &[
    r#"exec unshare -m "$@""#,
    r#"exec unshare -m sh -euc 'mount -t tmpfs none /mnt; exec "$@"' sh "$@""#,
    // One within another.
    r#"exec unshare -m sh -euc 'mount -t tmpfs none /mnt; exec unshare -m "$@"' sh "$@""#,
    // Its root directory was bound to itself, and is a mount of its own below the namespace's root.
    r#"exec unshare -m sh -euc 'mount --rbind / "$ROOT"; cd "$ROOT"; mount --move . /; exec chroot . "$@"' sh "$@""#,
];

/// Those who are given the host's own file where the host has it, in a root of their own.
const STRANGERS: &[&str] = &[
    // Anybody may make a user namespace, and change the mounts of one that it owns.
    r#"exec unshare -U -r -m "$@""#,
    r#"exec unshare -U -r -m sh -euc 'mount -t tmpfs none /mnt; exec "$@"' sh "$@""#,
    // A container with the host's directories as volumes.
    r#"exec unshare -m sh -euc "$CONTAINER"' exec chroot . "$@"' sh "$@""#,
    // The same with the host's root as a volume, which it takes for its root directory.
    r#"exec unshare -m sh -euc "$CONTAINER"' exec 9<".$1"; shift; exec chroot host /proc/self/fd/9 "$@"' sh "$@""#,
    // The same with a directory of the host that was left open.
    r#"exec 8</; exec unshare -m sh -euc "$CONTAINER"' exec 9<".$1"; shift; cd /proc/self/fd/8; exec chroot . /proc/self/fd/9 "$@"' sh "$@""#,
];

/// Moves a root of its own over the host's, with the host's directories in the same places, and the host's root at `/host`.
const CONTAINER: &str = r#"
    mount -t tmpfs none "$ROOT"
    for directory in /*; do
        test -d "$directory" || continue
        mkdir "$ROOT$directory"
        mount --rbind "$directory" "$ROOT$directory"
    done
    mkdir -p "$ROOT/host"
    mount --rbind / "$ROOT/host"
    cd "$ROOT"
    mount --move . /
"#;

#[test]
fn services_of_the_host_launch_from_mount_namespaces_of_their_own() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("launchers");
    fs::create_dir_all(format!("{SCRATCH}/launchers-root")).unwrap();
    let each = |expected: [i32; 2]| {
        for (scripts, expected) in [SERVICES, STRANGERS].into_iter().zip(expected) {
            for script in scripts {
                let script = script.replace("\"$CONTAINER\"", &format!("'{CONTAINER}'"));
                assert_status(&script, &cgroup, expected);
            }
        }
    };
    each([0, 0]);
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("launchers", &cgroup)]);
    let mark = enforcer.mark();
    each([0, 72]);
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), STRANGERS.len(), "one for each stranger: {events:?}");
}
