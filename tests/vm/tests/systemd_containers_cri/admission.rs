//! Pods and their containers: under their own policies, or not there at all.

use std::io::ErrorKind;
use std::net::TcpListener;

use enforcer_nri::grpc::GrpcError;
use enforcer_vm_tests::enforcer::{Enforcer, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::wait;

use super::cri::{Pod, image_id, talk_into};
use super::image::{self, ACTOR, ACTORS, EVIL, listing, named};
use super::node::{self, Plugin};

/// A container that serves at this port, and the policy for it.
fn server(name: &str, port: u16) -> (Policy, String) {
    let address = format!("127.0.0.1:{port}");
    (named(name).allow("network.bind", &format!("tcp {address}")), address)
}

/// What an attacker talks a server into: a shell, a file, a way out. Returns whether each went well, was refused.
fn attack(port: u16) -> Vec<(&'static str, bool, bool)> {
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    let address = outside.local_addr().unwrap().to_string();
    let steps: [(&str, &[&str]); 5] = [
        ("shell", &["exec", EVIL]),
        ("itself by another name", &["exec", "/pause"]),
        ("secret", &["open-read", "/etc/secret"]),
        ("dropped file", &["open-create", "/tmp/dropped"]),
        ("call home", &["connect-tcp", &address]),
    ];
    let outcomes = steps.map(|(what, op)| {
        let report = talk_into(port, op);
        (what, report.ok, report.refused())
    });
    let arrived = match outside.accept() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(arrived, outcomes[4].1, "what the server says of its connection is true");
    outcomes.to_vec()
}

#[test]
fn a_server_is_talked_into_everything_without_a_policy_and_nothing_with_one() {
    let mut enforcer = Enforcer::ready();
    node::ready();
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    {
        let pod = Pod::run("shop", "unprotected");
        let _victim = pod.start("victim", &[ACTOR, "serve", "127.0.0.1:7001"]);
        let outcomes = attack(7001);
        assert!(outcomes.iter().all(|(_, went_well, _)| *went_well), "{outcomes:?}");
    }
    if baseline_only() {
        return;
    }
    let (web, web_address) = server("web", 7002);
    let (side, side_address) = server("side", 7003);
    enforcer.apply(&[&image::base(), &web, &side.allow("file.read", "/etc/secret")]);
    let _plugin = Plugin::start();
    let mark = enforcer.mark();
    let pod = Pod::run("shop", "protected");
    let web = pod.start("web", &[ACTOR, "serve", &web_address]);
    let side = pod.start("side", &[ACTOR, "serve", &side_address]);
    assert!(talk_into(7002, &["open-read", "/etc/listed"]).ok, "what it is for");
    let bound = enforcer.log().containers_since(mark);
    let bound: Vec<_> = bound.iter().map(|event| (event.text("result"), event.text("policy"))).collect();
    assert_eq!(bound, [("bound", "web"), ("bound", "side")]);
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "the runtime needed a hole: {events:?}");

    let mark = enforcer.mark();
    let outcomes = attack(7002);
    assert!(outcomes.iter().all(|(_, went_well, refused)| !went_well && *refused), "{outcomes:?}");
    let events = enforcer.events_since(mark);
    assert_eq!(events.len(), outcomes.len(), "an event for each: {events:?}");
    assert!(events.iter().all(|event| event.text("policy") == "web"), "{events:?}");
    assert!(talk_into(7002, &["open-read", "/etc/listed"]).ok, "it still does what it is for");
    assert!(talk_into(7003, &["open-read", "/etc/secret"]).ok, "its neighbour goes on");
    assert!(talk_into(7003, &["exec", EVIL]).refused());

    // Whoever comes in later is under the same policy.
    assert!(web.exec_actor(&["open-read", "/etc/listed"]).ok);
    assert!(web.exec_actor(&["open-read", "/etc/secret"]).refused());
    assert!(side.exec_actor(&["open-read", "/etc/secret"]).ok);
    let smuggled = web.exec(&[EVIL, "open-read", "/etc/listed"]);
    assert!(!smuggled.as_ref().is_ok_and(|executed| executed.exit_code == 0), "{smuggled:?}");
    assert!(smuggled.is_err() || smuggled.is_ok_and(|executed| executed.stdout.is_empty()));
}

#[test]
fn a_program_is_judged_from_the_first_instruction() {
    let mut enforcer = Enforcer::ready();
    node::ready();
    if baseline_only() {
        return;
    }
    let shop = listing(Policy::bare("shop", "container.namespace", "shop"));
    enforcer.apply(&[&image::base(), &shop]);
    let _plugin = Plugin::start();
    let pod = Pod::run("shop", "first");
    for (name, command, reported) in [
        ("reads", [ACTOR, "open-read", "/etc/secret"], Some(true)),
        ("listed", [ACTOR, "open-read", "/etc/listed"], Some(false)),
        ("evil", [EVIL, "open-read", "/etc/listed"], None),
        ("poses", ["/proc/self/exe", "open-read", "/etc/listed"], None),
    ] {
        let mark = enforcer.mark();
        let container = pod.create(name, &command).unwrap();
        // runc says so when the program cannot be started, or the container ends with an error.
        let started = container.start();
        let status = container.ended();
        let reports = container.reports();
        assert_eq!(reports.first().map(|report| report.refused()), reported, "{name}: {started:?} {status}");
        let refused = enforcer.events_since(mark);
        assert_eq!(refused.is_empty(), reported == Some(false), "{name}: {refused:?}");
        assert!(refused.iter().all(|event| event.text("policy") == "shop"), "{refused:?}");
    }
}

#[test]
fn what_nobody_admits_is_not_made_and_what_has_another_image_does_not_start() {
    let mut enforcer = Enforcer::ready();
    node::ready();
    if baseline_only() {
        return;
    }
    let id = image_id(ACTORS).unwrap();
    assert!(id.starts_with("sha256:"), "{id}");
    let other = format!("sha256:{}", "0".repeat(64));
    let by_image = |image: &str| listing(Policy::bare("pinned", "container.image", image));
    enforcer.apply(&[&image::base(), &named("web")]);
    let _plugin = Plugin::start();
    let mark = enforcer.mark();
    let pod = Pod::run("shop", "strangers");
    let refused = |outcome: Result<(), GrpcError>| match outcome {
        Err(GrpcError::Status { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    let message = refused(pod.create("stranger", &[ACTOR, "true"]).map(drop));
    assert!(message.contains("no policy admits") && message.contains("stranger"), "{message}");
    wait::until("the event about the stranger", wait::SOON, || {
        let asked = enforcer.log().containers_since(mark);
        let stranger = asked.iter().find(|event| event.text("message").contains("stranger"))?;
        assert_eq!(stranger.text("result"), "refused");
        Some(())
    });

    // Which image it is turns out when it is there.
    enforcer.apply(&[&image::base(), &by_image(&other)]);
    let container = pod.create("other", &[ACTOR, "open-read", "/etc/listed"]).unwrap();
    let message = refused(container.start());
    assert!(message.contains("no policy admits") && message.contains(&id), "{message}");
    container.ended();
    assert!(container.reports().is_empty(), "it never ran");

    enforcer.apply(&[&image::base(), &by_image(&id)]);
    let container = pod.start("pinned", &[ACTOR, "open-read", "/etc/listed"]);
    assert_eq!(container.ended(), 0);
    assert!(container.reports()[0].ok);
}
