//! Many containers in a row, while the plugin comes and goes: what the kernel says was started, and what our log says.

use std::time::Instant;

use enforcer_vm_tests::enforcer::{Enforcer, asked, baseline_only};

use super::cri::Pod;
use super::image::{self, ACTOR, EVIL, named};
use super::node::{self, Plugin};
use super::trace::Trace;

/// How many, unless `ENFORCER_VM_STARTS` says otherwise.
const STARTS: usize = 6;

/// What a container in a row is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Starts what its policy lists.
    Good,
    /// Starts something else.
    Evil,
    /// Starts what its policy lists while the plugin is away.
    Unjudged,
}

#[test]
fn no_program_starts_unjudged() {
    let mut enforcer = Enforcer::ready();
    node::ready();
    if baseline_only() {
        return;
    }
    let starts = asked("ENFORCER_VM_STARTS", STARTS, STARTS);
    enforcer.apply(&[&image::base(), &named("row")]);
    let mut plugin = Some(Plugin::start());
    let pod = Pod::run("shop", "row");
    let mark = enforcer.mark();
    let trace = Trace::begin();
    let began = Instant::now();
    let kinds: Vec<Kind> = (0..starts)
        .map(|at| match at % 6 {
            2 | 5 => Kind::Evil,
            // Two in a row, so that it goes and comes back half as often.
            3 | 4 => Kind::Unjudged,
            _ => Kind::Good,
        })
        .collect();
    for (at, kind) in kinds.iter().enumerate() {
        match (kind, &plugin) {
            (Kind::Unjudged, Some(_)) => plugin = None,
            (Kind::Good | Kind::Evil, None) => plugin = Some(Plugin::start()),
            _ => {}
        }
        let program = if *kind == Kind::Evil { EVIL } else { ACTOR };
        let container = pod.create("row", &[program, "open-read", "/etc/listed"]).unwrap();
        let started = container.start();
        let ran = container.ended() == 0;
        assert_eq!(ran, *kind == Kind::Good, "container {at}: {started:?}");
        container.remove();
    }
    let took = began.elapsed();
    let programs = trace.programs();
    let of = |kind: Kind| kinds.iter().filter(|it| **it == kind).count();
    let started = |program: &str| programs.iter().filter(|it| *it == program).count();
    assert_eq!(started(ACTOR), of(Kind::Good), "{programs:?}");
    assert_eq!(started(EVIL), 0, "{programs:?}");
    // The log tells the same story: who was bound, and what was refused under which policy.
    let bound = enforcer.log().containers_since(mark);
    assert!(bound.iter().all(|event| event.text("result") == "bound"), "{bound:?}");
    assert_eq!(bound.len(), of(Kind::Good) + of(Kind::Evil));
    let events = enforcer.events_since(mark);
    assert_eq!(enforcer.log().lost_since(mark), 0);
    let refused = |program: &str, policy: &str| {
        events.iter().filter(|it| it.object("path") == program && it.text("policy") == policy).count()
    };
    assert_eq!(refused(EVIL, "row"), of(Kind::Evil), "{events:?}");
    assert_eq!(refused(ACTOR, "base"), of(Kind::Unjudged), "{events:?}");
    assert_eq!(events.len(), of(Kind::Evil) + of(Kind::Unjudged), "nothing else: {events:?}");
    println!("{starts} containers in {took:.1?}; the kernel started {} programs meanwhile", programs.len());
}
