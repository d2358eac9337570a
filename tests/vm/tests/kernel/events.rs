//! What the log says about a denial, and how soon.

use std::fs;

use enforcer_common::abi::Counter;
use enforcer_vm_tests::actor::{self, Actor, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{EVENT_LIMIT, Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::pins;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::copy_of_actor;
use enforcer_vm_tests::wait;

#[test]
fn an_event_is_logged_within_a_second() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let delays: Vec<_> = (0..10).map(|_| enforcer.barrier()).collect();
    println!("{delays:?}");
    assert!(delays.iter().all(|delay| *delay < EVENT_LIMIT), "{delays:?}");
}

#[test]
fn an_event_tells_who_where_and_what() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("telling");
    let file = format!("{SCRATCH}/telling");
    fs::create_dir_all(SCRATCH).unwrap();
    fs::write(&file, "").unwrap();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("telling", &cgroup)]);
    let mark = enforcer.mark();
    let mut actor = Actor::start(Place::Joining(&cgroup)).unwrap();
    assert!(actor.perform(&["open-read", &file]).refused());
    assert!(actor.perform(&["fork", "open-read", &file]).refused());
    let events = enforcer.events_since(mark);
    let [direct, forked] = events.as_slice() else { panic!("two events, please: {events:?}") };
    assert_eq!(direct.number("pid"), Some(actor.pid().into()));
    assert_eq!(direct.number("tid"), Some(actor.pid().into()));
    assert_eq!(direct.number("uid"), Some(0));
    assert_eq!(direct.text("comm"), "actor");
    assert_eq!(direct.text("exe"), actor::program());
    assert!(direct.text("cgroup").ends_with(cgroup.path()), "{direct}");
    assert_eq!(direct.text("policy"), "telling");
    assert_eq!(direct.text("mode"), "enforce");
    assert_eq!(direct.object("path"), file);
    assert_eq!(direct.needed(), ["read"]);
    assert!(direct.suggestion().contains(&file) && direct.suggestion().contains("read"), "{direct}");
    let parent = |event: &enforcer_vm_tests::events::Event| event.0["parents"][0]["pid"].as_u64();
    assert_eq!(parent(direct), Some(std::process::id().into()), "{direct}");
    assert_eq!(parent(forked), Some(actor.pid().into()), "{forked}");
    assert_eq!(forked.0["parents"][0]["comm"].as_str(), Some("actor"), "{forked}");
    // 2026-11-21T22:05:00…
    assert!(direct.text("time").get(..11).is_some_and(|date| date.ends_with('T')), "{direct}");
    let generation = direct.number("generation").unwrap();
    enforcer.apply(&[&Policy::of("telling", &cgroup)]);
    let mark = enforcer.mark();
    assert!(actor.perform(&["open-read", &file]).refused());
    let events = enforcer.events_since(mark);
    assert!(events[0].number("generation") > Some(generation), "{events:?}");
}

/// Whoever adds what the events suggest gets what was refused.
#[test]
fn suggested_rules_allow_what_was_refused() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("suggested");
    let root = format!("{SCRATCH}/suggested");
    fs::create_dir_all(&root).unwrap();
    fs::write(format!("{root}/a \"quoted\" [name]*"), "").unwrap();
    copy_of_actor(format!("{root}/program").as_ref());
    let (tcp, _) = enforcer_vm_tests::servers::tcp("127.0.0.1:0");
    let (udp, _) = enforcer_vm_tests::servers::udp("[::1]:0");
    let ops = [
        op(&["open-read", &format!("{root}/a \"quoted\" [name]*")]),
        op(&["open-write", &format!("{root}/a \"quoted\" [name]*")]),
        op(&["exec", &format!("{root}/program")]),
        op(&["connect-tcp", &tcp.to_string()]),
        op(&["sendto", &udp.to_string()]),
        op(&["mmap-rwx"]),
        op(&["fork", "chroot", "/tmp"]),
        op(&["unix-bind", "@suggested"]),
    ];
    let bare = actor::run(Place::Joining(&cgroup), &ops).unwrap();
    assert!(bare.iter().all(|report| report.ok), "without a policy: {bare:?}");
    if baseline_only() {
        return;
    }
    let mut policy = Policy::of("suggested", &cgroup);
    // One refusal may hide another behind it: what is suggested for a socket is followed by its address.
    for _ in 0..4 {
        enforcer.apply(&[&policy]);
        let mark = enforcer.mark();
        let reports = actor::run(Place::Joining(&cgroup), &ops).unwrap();
        let events = enforcer.events_since(mark);
        if reports.iter().all(|report| report.ok) {
            return;
        }
        for event in &events {
            policy = add_suggestion(policy, &event.suggestion());
        }
    }
    panic!("the suggestions do not lead to:\n{}", policy.to_toml());
}

/// Adds the rules of a suggestion: `[section] key = value`, one to a line.
fn add_suggestion(policy: Policy, suggestion: &str) -> Policy {
    suggestion.lines().fold(policy, |policy, line| {
        let (table, rule) = line.split_once("] ").unwrap_or_else(|| panic!("no table in {suggestion:?}"));
        let (key, value) = rule.split_once(" = ").unwrap_or_else(|| panic!("no key in {suggestion:?}"));
        let key = format!("{}.{key}", table.trim_start_matches('['));
        let parsed: toml::Table = format!("value = {value}").parse().expect("the value is TOML");
        match &parsed["value"] {
            toml::Value::Boolean(true) => policy.allow(&key, "true"),
            toml::Value::Array(values) => values
                .iter()
                .filter_map(toml::Value::as_str)
                .fold(policy, |policy, value| policy.allow(&key, value)),
            other => panic!("{other:?} in {suggestion:?}"),
        }
    })
}

/// A log that cannot keep up loses events, never denials, and says how many.
#[test]
fn lost_events_are_counted() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("flood");
    let file = format!("{SCRATCH}/{}", "f".repeat(200));
    fs::create_dir_all(SCRATCH).unwrap();
    fs::write(&file, "").unwrap();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&Policy::of("flood", &cgroup)]);
    let mark = enforcer.mark();
    let lost_before = pins::counter(Counter::EventsLost);
    let denied_before = pins::counter(Counter::Denied);
    let daemon = nix::unistd::Pid::from_raw(i32::try_from(enforcer.daemon_pid().unwrap()).unwrap());
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGSTOP).unwrap();
    // A record is longer than its path, so this overflows the ring for sure.
    let enough = u64::from(pins::capacity(enforcer_common::maps::EVENTS)) / 200 + 100;
    let mut actor = Actor::start(Place::Joining(&cgroup)).unwrap();
    let table = serde_json::json!([{ "expect": "deny", "op": ["open-read", file] }]).to_string();
    actor.ask(&op(&["loop", &table]));
    wait::until("the flood", wait::SOON * 3, || {
        let all_refused = actor.pending().all(|report| report.ok);
        assert!(all_refused, "an open was not refused");
        (pins::counter(Counter::Denied) - denied_before > enough).then_some(())
    });
    let rest = actor.finish();
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert!(rest.iter().all(|report| report.ok), "{rest:?}");
    let denied = pins::counter(Counter::Denied) - denied_before;
    let lost = pins::counter(Counter::EventsLost) - lost_before;
    assert!(lost > 0, "nothing was lost of {denied}");
    wait::until("the rest of the events", wait::SOON, || {
        (enforcer.log().since(mark).len() as u64 == denied - lost).then_some(())
    });
    wait::until("the log to tell of the loss", wait::SOON, || {
        (enforcer.log().lost_since(mark) == lost).then_some(())
    });
    println!("{denied} denied, {lost} events lost and counted");
    enforcer.barrier();
}
