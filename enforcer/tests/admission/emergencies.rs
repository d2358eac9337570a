//! Break-glass policies, and denying everything.

use std::time::Duration;

use enforcer::bundle::{
    statement::{Binding, Statement, StatementError},
    verify::Trust,
};

use super::world::{POLICY, World};
use crate::tpm::emulator::pcr;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_break_glass_policy_is_admitted_whatever_was_booted_and_is_measured() {
    let world = World::new();
    world.admit(5);
    // Another kernel: the usual policy is refused.
    world.open().extend(pcr(4), &[1; 32]).unwrap();
    assert_eq!(world.refused(), "platform-state");
    world.deliver(&world.sign_with(&world.break_glass(1, HOUR), &[&world.on_call]));
    let taken = world.take().unwrap();
    let report = taken.report.unwrap();
    assert!(matches!(&report.trust, Trust::BreakGlass(grounds) if grounds.version == 1));
    assert!(report.not_after.is_some());
    assert!(report.measured.last().unwrap().starts_with("break-glass:web:1:"), "{:?}", report.measured);
    // It is remembered as in use, beside the usual one.
    assert!(world.intake().break_glass().is_some());
    assert!(world.path("state/last-good").is_dir());
}

#[test]
fn after_an_emergency_the_usual_policy_comes_back_as_it_was() {
    let world = World::new();
    let usual = world.sign(&world.statement(5));
    world.deliver(&usual);
    world.take().unwrap();
    world.deliver(&world.sign_with(&world.break_glass(1, HOUR), &[&world.on_call]));
    world.take().unwrap();
    world.deliver(&usual);
    let report = world.take().unwrap().report.unwrap();
    assert!(report.already_active, "versions of break-glass policies are counted apart");
    assert!(report.measured.last().unwrap().starts_with("policy:web:5:"), "{:?}", report.measured);
    assert!(world.intake().break_glass().is_none());
}

#[test]
fn an_old_break_glass_policy_is_refused_once_a_newer_was_used() {
    let world = World::new();
    let old = world.sign_with(&world.break_glass(1, HOUR), &[&world.on_call]);
    world.deliver(&world.sign_with(&world.break_glass(2, HOUR), &[&world.on_call]));
    world.take().unwrap();
    world.deliver(&old);
    assert_eq!(world.refused(), "rollback");
    assert!(world.complaint().contains("break-glass version 2"));
}

#[test]
fn keys_sign_what_they_are_for() {
    let world = World::new();
    world.deliver(&world.sign_with(&world.break_glass(1, HOUR), &[&world.ops]));
    assert_eq!(world.refused(), "key-role");
    world.deliver(&world.sign_with(&world.statement(1), &[&world.on_call]));
    assert_eq!(world.refused(), "key-role");
}

#[test]
fn it_expires_and_is_for_one_machine() {
    let world = World::new();
    let expired = Statement {
        not_after: Some(std::time::SystemTime::now() - Duration::from_secs(5)),
        ..world.break_glass(1, HOUR)
    };
    world.deliver(&world.sign_with(&expired, &[&world.on_call]));
    assert_eq!(world.refused(), "expired");
    let elsewhere =
        Statement { ak_name: Some(format!("000b{}", "22".repeat(32))), ..world.break_glass(1, HOUR) };
    world.deliver(&world.sign_with(&elsewhere, &[&world.on_call]));
    assert_eq!(world.refused(), "other-machine");
    let other_pcr7 = Statement {
        bindings: vec![Binding {
            label: "any".into(),
            pcrs: [(pcr(7), enforcer::measured::pcr::PcrValue([7; 32]))].into_iter().collect(),
        }],
        ..world.break_glass(1, HOUR)
    };
    world.deliver(&world.sign_with(&other_pcr7, &[&world.on_call]));
    assert_eq!(world.refused(), "platform-state");
}

#[test]
fn what_is_not_narrow_enough_cannot_even_be_signed() {
    let world = World::new();
    let whole = world.break_glass(1, HOUR);
    let refused = |statement: Statement| matches!(statement.to_payload(), Err(StatementError::Unusable(_)));
    assert!(!refused(whole.clone()));
    assert!(refused(Statement { not_after: None, ..whole.clone() }));
    assert!(refused(Statement { ak_name: None, ..whole.clone() }));
    let binding = Binding { label: "more".into(), pcrs: world.booted() };
    assert!(refused(Statement { bindings: vec![binding], ..whole }));
}

#[test]
fn denying_everything_keeps_the_workloads_and_grants_nothing() {
    let world = World::new();
    world.admit(1);
    // What lies there now does not matter: the kept copy says which workloads there are.
    std::fs::remove_dir_all(world.path("policies")).unwrap();
    std::fs::create_dir(world.path("policies")).unwrap();
    let denied = world.intake().deny_all().policies;
    assert_eq!(denied.len(), 1);
    let policy = &denied[0];
    assert_eq!((policy.name(), policy.trust()), ("web", &Trust::DenyAll));
    assert!(policy.image().exact.is_empty() && policy.image().automaton.is_none());
    assert!(policy.image().prefixes.is_empty() && policy.image().privileges == 0);
    let selector = |text: &str| format!("{:?}", text);
    let usual = world.intake().take_last_good(|_| Ok(())).unwrap();
    assert_eq!(
        selector(&format!("{:?}", policy.compiled().policy.selector)),
        selector(&format!("{:?}", usual.policies[0].compiled().policy.selector))
    );
    assert_eq!(usual.policies[0].bytes(), POLICY.as_bytes());
}
