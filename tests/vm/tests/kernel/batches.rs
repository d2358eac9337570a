//! Several datagrams in one call, of which the kernel asks about the first to each address only.

use std::net::UdpSocket;

use enforcer_vm_tests::actor::{Actor, Place};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, baseline_only};
use enforcer_vm_tests::policy::Policy;

const LISTED: &str = "127.0.0.1:7211";
const ALSO_LISTED: &str = "127.0.0.1:7212";
/// Nobody listens on the last two; what is sent there is lost.
const UNLISTED: &str = "127.0.0.2:7211";

fn actor(enforcer: &mut Enforcer, name: &str, privileges: &[&str]) -> (Cgroup, Actor) {
    let cgroup = Cgroup::create(name);
    let policy = Policy::of(name, &cgroup)
        .allow("network.families", "inet")
        .allow("network.connect", &format!("udp {LISTED}"))
        .allow("network.connect", &format!("udp {ALSO_LISTED}"));
    let policy =
        privileges.iter().fold(policy, |policy, privilege| policy.allow("privileges.allow", privilege));
    enforcer.apply(&[&policy]);
    let actor = Actor::start(Place::Joining(&cgroup)).unwrap();
    (cgroup, actor)
}

/// How many datagrams went out; `EPERM` as none.
#[track_caller]
fn sent(actor: &mut Actor, how: &str, to: &[&str]) -> Result<usize, i32> {
    let report = actor.perform(&[&["send-many", how], to].concat());
    if report.errno == 0 { Ok(report.detail.parse().unwrap()) } else { Err(report.errno) }
}

#[test]
fn resolvers_send_two_questions_at_once() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let (_cgroup, mut actor) = actor(&mut enforcer, "batches-connected", &[]);
    // Who is connected to nobody is told so by the second of two.
    let _nameserver = UdpSocket::bind(LISTED).unwrap();
    // What getaddrinfo() of the C library does: the kernel asks about each of these.
    assert_eq!(sent(&mut actor, "connected", &[LISTED, LISTED]), Ok(2));
    assert_eq!(sent(&mut actor, "connected", &[UNLISTED, UNLISTED]), Err(libc::EPERM));
    assert_eq!(sent(&mut actor, "named", &[LISTED]), Ok(1), "a batch of one hides nothing");
}

#[test]
fn named_batches_take_the_privilege_that_they_could_abuse() {
    let mut enforcer = Enforcer::ready();
    if baseline_only() {
        return;
    }
    let (_cgroup, mut without) = actor(&mut enforcer, "batches-without", &[]);
    for batch in [[LISTED, LISTED], [LISTED, ALSO_LISTED]] {
        // The same again: an address that was allowed is remembered.
        for _ in 0..2 {
            assert_eq!(sent(&mut without, "named", &[LISTED]), Ok(1));
            assert_eq!(sent(&mut without, "named", &batch), Err(libc::EPERM), "{batch:?}");
        }
    }
    let (_cgroup, mut with) = actor(&mut enforcer, "batches-with", &["raw-headers"]);
    assert_eq!(sent(&mut with, "named", &[LISTED, LISTED, ALSO_LISTED]), Ok(3));
    assert_eq!(sent(&mut with, "named", &[LISTED, UNLISTED]), Ok(1), "the second is judged as ever");
    assert_eq!(sent(&mut with, "named", &[UNLISTED, LISTED]), Err(libc::EPERM));
}
