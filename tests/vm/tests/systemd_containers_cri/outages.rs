//! The plugin, the daemon and containerd are away, one after the other: nothing runs that nobody has judged.

use std::fs;

use enforcer_vm_tests::enforcer::{Enforcer, baseline_only};
use enforcer_vm_tests::units::{self, UnitFile};
use enforcer_vm_tests::wait;

use super::cri::{Container, Pod, talk_into};
use super::image::{self, ACTOR, HOLDER, named};
use super::node::{self, CONTAINERD, Plugin};

const READ: [&str; 3] = [ACTOR, "open-read", "/etc/listed"];

/// That the container's program did not run, although the runtime tried.
fn assert_quarantined(enforcer: &mut Enforcer, container: &Container) {
    let mark = enforcer.mark();
    let started = container.start();
    container.ended();
    assert!(container.reports().is_empty(), "it ran: {started:?}");
    let events = enforcer.events_since(mark);
    let held = |program: &str, policy: &str| {
        events.iter().any(|event| event.object("path") == program && event.text("policy") == policy)
    };
    assert!(held(ACTOR, "base"), "{events:?}");
}

fn assert_runs(pod: &Pod, name: &str) {
    let container = pod.start(name, &READ);
    assert_eq!(container.ended(), 0);
    assert!(container.reports()[0].ok, "{name}");
}

#[test]
fn without_a_plugin_containers_stay_under_the_base_policy() {
    let mut enforcer = Enforcer::ready();
    node::ready();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&image::base(), &named("never"), &named("hung"), &named("killed"), &named("back")]);
    let pod = Pod::run("shop", "outages");
    let never = pod.create("never", &READ).unwrap();
    assert_quarantined(&mut enforcer, &never);

    // It hangs: containerd waits for a while, drops it and goes on.
    let plugin = Plugin::start();
    plugin.signal("STOP");
    plugin.wait_until_stopped();
    let hung = pod.create("hung", &READ).unwrap();
    assert_quarantined(&mut enforcer, &hung);
    plugin.signal("CONT");
    // It finds out that it was dropped, and comes back.
    wait::until("the plugin to be back", node::TIMEOUT * 4, || {
        let container = pod.create("back", &READ).ok()?;
        let _ = container.start();
        let ran = container.ended() == 0 && container.reports().first().is_some_and(|report| report.ok);
        container.remove();
        ran.then_some(())
    });

    // It is killed between the making and the start.
    let killed = pod.create("killed", &READ).unwrap();
    drop(plugin);
    assert_quarantined(&mut enforcer, &killed);
}

#[test]
fn without_the_daemon_no_container_is_made() {
    let mut enforcer = Enforcer::ready();
    node::ready();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&image::base(), &named("made"), &named("late")]);
    let _plugin = Plugin::start();
    let pod = Pod::run("shop", "daemonless");
    let made = pod.create("made", &READ).unwrap();
    enforcer.kill_daemon();
    let refused = pod.create("late", &READ).map(drop).unwrap_err().to_string();
    assert!(refused.contains("cannot reach the daemon"), "{refused}");
    let refused = made.start().unwrap_err().to_string();
    assert!(refused.contains("cannot reach the daemon"), "{refused}");
    assert!(made.reports().is_empty(), "it never ran");
    enforcer.start_daemon();
    assert_runs(&pod, "late");
}

/// Afterwards containerd has a mount namespace of its own, which its shims and runc have, too.
#[test]
fn a_restart_of_containerd_takes_nothing_away_and_what_runs_is_reconciled() {
    let mut enforcer = Enforcer::ready();
    node::ready();
    if baseline_only() {
        return;
    }
    let address = "127.0.0.1:7004";
    let lasting = named("lasting").allow("network.bind", &format!("tcp {address}"));
    enforcer.apply(&[&image::base(), &lasting, &named("late"), &named("after")]);
    let log = enforcer.log();
    let pod = Pod::run("shop", "restarts");
    // The base policy lets these two run: nobody has asked for them. One is somebody's.
    let stray = pod.start("stray", &[HOLDER, "pause"]);
    let late = pod.start("late", &[HOLDER, "pause"]);
    let mark = enforcer.mark();
    let plugin = Plugin::start();
    let results = |mark| {
        let events = log.containers_since(mark);
        let result = |event: &enforcer_vm_tests::events::Event| {
            let name = event.0["container"]["container"].as_str().unwrap_or_default().to_owned();
            (name, event.text("result").to_owned())
        };
        let mut results: Vec<_> = events.iter().map(result).collect();
        results.sort();
        results
    };
    let expected = [("late", "bound"), ("stray", "unadmitted")];
    let expected = expected.map(|(name, result)| (name.to_owned(), result.to_owned()));
    wait::until("both to be looked at", wait::SOON, || (results(mark) == expected).then_some(()));

    // Whoever comes in now is under what was found.
    assert!(late.exec_actor(&["open-read", "/etc/listed"]).ok);
    let held = stray.exec(&[ACTOR, "open-read", "/etc/listed"]);
    assert!(!held.as_ref().is_ok_and(|executed| executed.exit_code == 0), "{held:?}");

    let resident = pod.start("lasting", &[ACTOR, "serve", address]);
    assert!(talk_into(7004, &["open-read", "/etc/secret"]).refused());
    let mark = enforcer.mark();
    let _private = UnitFile::second_drop_in(CONTAINERD, "[Service]\nProtectHome=yes\n");
    node::restart();
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_ne!(namespace(&units::property(CONTAINERD, "MainPID")), namespace("1"));
    assert!(talk_into(7004, &["open-read", "/etc/secret"]).refused(), "it keeps its policy");
    assert!(talk_into(7004, &["open-read", "/etc/listed"]).ok);
    // The plugin comes back by itself. What has its policy is no news; what has none is.
    let unbound = ("stray".to_owned(), "unadmitted".to_owned());
    let seen = wait::until("the plugin to look again", wait::SOON * 3, || {
        Some(results(mark)).filter(|seen| !seen.is_empty())
    });
    assert!(seen.iter().all(|result| *result == unbound), "{seen:?}");
    assert!(plugin.is_connected(), "{}", units::state("enforcer-nri.service"));
    assert!(resident.exec_actor(&["open-read", "/etc/secret"]).refused());
    assert_runs(&pod, "after");
}
