//! Bare runc, with the hook in the bundle.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::wait;
use serde_json::{Value, json};

use super::image::{self, ACTOR, EVIL, assert_never_ran, named, reported, run};

/// A bundle for runc: the container's cgroup is one that the base policy knows.
fn bundle(name: &str, program: &[&str], hooked: bool) -> PathBuf {
    let bundle = PathBuf::from(SCRATCH).join(format!("bundle-{name}"));
    let _ = fs::remove_dir_all(&bundle);
    fs::create_dir_all(&bundle).unwrap();
    let spec = run(Command::new("runc").arg("spec").current_dir(&bundle));
    assert!(spec.status.success(), "{spec:?}");
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["args"] = json!(program);
    config["process"]["terminal"] = json!(false);
    config["root"]["path"] = json!(image::tree(&format!("root-{name}")));
    config["linux"]["cgroupsPath"] = json!(format!("/enforcer-test/runc-{name}"));
    if hooked {
        config["hooks"] =
            json!({ "createRuntime": [{ "path": image::hook(), "args": ["enforcer-oci-hook"] }] });
    }
    fs::write(&file, config.to_string()).unwrap();
    bundle
}

fn runc(name: &str, program: &[&str], hooked: bool) -> Command {
    let mut command = Command::new("runc");
    command.args(["run", "--bundle"]).arg(bundle(name, program, hooked)).arg(name);
    command
}

fn base() -> Policy {
    Policy::bare("base", "container-roots", "/enforcer-test/runc-*")
}

/// A container that waits for orders that never come.
struct Resident(Child, &'static str);

impl Resident {
    fn start(name: &'static str) -> Self {
        let child =
            runc(name, &[ACTOR, "script"], true).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let running = || {
            let state = run(Command::new("runc").args(["state", name]));
            String::from_utf8_lossy(&state.stdout).contains("\"running\"").then_some(())
        };
        wait::until("the container to run", wait::SOON * 3, running);
        Self(child, name)
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
        let _ = run(Command::new("runc").args(["delete", "--force", self.1]));
    }
}

#[test]
fn bare_runc() {
    let mut enforcer = Enforcer::ready();
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    let bare = run(&mut runc("bare", &[EVIL, "open-read", "/etc/secret"], false));
    assert!(bare.status.success() && reported(&bare).ok, "an attack without hook and policy: {bare:?}");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&base(), &named("app")]);
    let mark = enforcer.mark();
    let good = run(&mut runc("app", &[ACTOR, "open-read", "/etc/listed"], true));
    let events = enforcer.events_since(mark);
    assert!(good.status.success() && reported(&good).ok, "{good:?} {events:?}");
    assert!(events.is_empty(), "{events:?}");
    assert!(reported(&run(&mut runc("app", &[ACTOR, "open-read", "/etc/secret"], true))).refused());
    for posing in [EVIL, "/usr/bin/crun", "/usr/sbin/runc", "/proc/self/exe"] {
        assert_never_ran(&run(&mut runc("app", &[posing, "open-read", "/etc/listed"], true)));
    }
    assert_never_ran(&run(&mut runc("other", &[ACTOR, "open-read", "/etc/listed"], true)));
    assert_never_ran(&run(&mut runc("app", &[ACTOR, "open-read", "/etc/listed"], false)));
}

#[test]
fn runc_exec_is_under_the_container_s_policy() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&base(), &named("resident")]);
    let _resident = Resident::start("resident");
    let exec = |program: &[&str]| run(Command::new("runc").args(["exec", "resident"]).args(program));
    assert!(reported(&exec(&[ACTOR, "open-read", "/etc/listed"])).ok);
    assert!(reported(&exec(&[ACTOR, "open-read", "/etc/secret"])).refused());
    for posing in [EVIL, "/usr/sbin/runc", "/proc/self/exe"] {
        assert_never_ran(&exec(&[posing, "open-read", "/etc/listed"]));
    }
}
