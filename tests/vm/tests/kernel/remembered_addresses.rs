//! An address that was allowed is remembered in the task's label, and counts only while everything it hangs on is the
//! same.

use std::net::{IpAddr, SocketAddr};

use enforcer_common::abi::{AllowedAddress, Label};
use enforcer_common::net::Flow;
use enforcer_vm_tests::actor::{Actor, Place};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, baseline_only, decides_each_time};
use enforcer_vm_tests::pins;
use enforcer_vm_tests::policy::Policy;

/// Nobody listens on these ports: a connection that is allowed is refused by the peer, and a datagram is lost.
const LISTED: &str = "127.0.0.1:7201";
const LISTED_V6: &str = "[::1]:7201";
const OTHER_PORT: &str = "127.0.0.1:7202";
const OTHER_ADDRESS: &str = "127.0.0.2:7201";
const OTHER_V6: &str = "[::2]:7201";

const TCP: usize = 0;
const OTHERS: usize = 1;

struct World {
    enforcer: Enforcer,
    cgroup: Cgroup,
    actor: Actor,
}

impl World {
    /// With a policy that lists one address over these protocols. `None` where nothing is enforced.
    fn new(name: &str, protocols: &[&str]) -> Option<Self> {
        let mut enforcer = Enforcer::ready();
        if baseline_only() {
            return None;
        }
        let cgroup = Cgroup::create(name);
        enforcer.apply(&[&Self::policy(name, &cgroup, protocols)]);
        let actor = Actor::start(Place::Joining(&cgroup)).unwrap();
        Some(Self { enforcer, cgroup, actor })
    }

    fn policy(name: &str, cgroup: &Cgroup, protocols: &[&str]) -> Policy {
        let policy =
            Policy::of(name, cgroup).allow("network.families", "inet").allow("network.families", "inet6");
        let addresses = [LISTED, LISTED_V6].into_iter();
        addresses
            .flat_map(|address| protocols.iter().map(move |protocol| format!("{protocol} {address}")))
            .fold(policy, |policy, rule| policy.allow("network.connect", &rule))
    }

    fn label(&self) -> Label {
        pins::label(self.actor.pid()).unwrap().expect("the actor has met a hook")
    }

    /// Whether the policy lets the actor do it.
    #[track_caller]
    fn may(&mut self, op: &str, to: &str) -> bool {
        let report = self.actor.perform(&[op, to]);
        match report.errno {
            libc::EPERM => false,
            0 | libc::ECONNREFUSED | libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL => true,
            _ => panic!("{report:?}"),
        }
    }
}

/// What a label says after this was allowed.
fn remembered(label: &Label, to: &str, flow: Flow) -> AllowedAddress {
    let to: SocketAddr = to.parse().unwrap();
    let IpAddr::V6(address) = (match to.ip() {
        IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
        v6 => v6,
    }) else {
        unreachable!("mapped")
    };
    let octets = address.octets();
    let half = |from: usize| u64::from_ne_bytes(octets[from..from + 8].try_into().unwrap());
    AllowedAddress {
        generation: pins::generation(),
        slot: label.slot,
        incarnation: label.incarnation,
        address: [half(0), half(8)],
        port: to.port().into(),
        flow: flow.0,
    }
}

/// The label tells what was allowed last, and nothing that was refused.
#[test]
fn what_was_allowed_last_is_remembered() {
    let Some(mut world) = World::new("addresses", &["tcp", "udp"]) else { return };
    let expect = |world: &World, tcp: Option<&str>, udp: Option<&str>| {
        let label = world.label();
        for (place, to, flow) in [(TCP, tcp, Flow::TCP_CONNECT), (OTHERS, udp, Flow::UDP_CONNECT)] {
            match to.filter(|_| !decides_each_time()) {
                Some(to) => assert_eq!(label.allowed[place], remembered(&label, to, flow)),
                None => assert_eq!(label.allowed[place].generation, 0, "{label:?}"),
            }
        }
    };
    expect(&world, None, None);
    assert!(!world.may("connect-tcp", OTHER_PORT) && !world.may("sendto", OTHER_PORT));
    expect(&world, None, None);
    assert!(world.may("connect-tcp", LISTED));
    expect(&world, Some(LISTED), None);
    assert!(world.may("sendto", LISTED_V6));
    expect(&world, Some(LISTED), Some(LISTED_V6));
    assert!(world.may("connect-tcp", LISTED_V6) && world.may("sendto", LISTED));
    expect(&world, Some(LISTED_V6), Some(LISTED));
    assert!(!world.may("connect-tcp", OTHER_ADDRESS) && !world.may("sendto", OTHER_V6));
    expect(&world, Some(LISTED_V6), Some(LISTED));
    for again in [LISTED, LISTED_V6, LISTED, LISTED_V6] {
        assert!(world.may("connect-tcp", again) && world.may("sendto", again));
    }
}

/// Another port, address or protocol is decided by the policy, however often the listed one was allowed before.
#[test]
fn another_address_or_protocol_is_decided_anew() {
    for (listed, op, other_op) in [("tcp", "connect-tcp", "sendto"), ("udp", "sendto", "connect-tcp")] {
        let Some(mut world) = World::new(&format!("only-{listed}"), &[listed]) else { return };
        for to in [LISTED, LISTED_V6] {
            assert!(world.may(op, to));
            for other in [OTHER_PORT, OTHER_ADDRESS, OTHER_V6] {
                assert!(!world.may(op, other), "{op} {other}");
                assert!(world.may(op, to), "{op} {to}");
            }
            assert!(!world.may(other_op, to), "{other_op} {to}");
            assert!(world.may(op, to), "{op} {to}");
        }
        // UDP-Lite goes by the rules for UDP, on kernels that have it.
        let lite = world.actor.perform(&["sendto-udplite", LISTED]);
        if lite.errno == libc::EPROTONOSUPPORT {
            println!("skipped on this kernel: UDP-Lite");
        } else {
            assert_eq!(lite.ok, listed == "udp", "{lite:?}");
            assert!(world.actor.perform(&["sendto-udplite", OTHER_PORT]).refused());
        }
    }
}

#[test]
fn another_policy_is_decided_anew() {
    let Some(mut world) = World::new("other-rules", &["tcp", "udp"]) else { return };
    let policy = World::policy("other-rules", &world.cgroup, &["tcp", "udp"]);
    let bare = World::policy("other-rules", &world.cgroup, &[]);
    let neighbour = Cgroup::create("neighbour");
    let both = |world: &mut World| [world.may("connect-tcp", LISTED), world.may("sendto", LISTED)];
    for round in 0..2 {
        assert_eq!(both(&mut world), [true; 2], "round {round}");
        // A generation with the same rules, in which it is decided again.
        world.enforcer.apply(&[&policy, &World::policy("neighbour", &neighbour, &[])]);
        assert_ne!(
            world.label().allowed[TCP].generation,
            pins::generation(),
            "the rules were put in force anew"
        );
        assert_eq!(both(&mut world), [true; 2], "round {round}");
        world.enforcer.apply(&[&bare]);
        assert_eq!(both(&mut world), [false; 2], "round {round}: the rules were removed");
        world.enforcer.apply(&[&policy]);
    }

    // Nobody's policy any more, and then another one's.
    assert_eq!(both(&mut world), [true; 2]);
    world.enforcer.apply(&[]);
    assert_eq!(both(&mut world), [true; 2], "under no policy");
    world.enforcer.apply(&[&World::policy("successor", &world.cgroup, &["tcp"])]);
    assert_eq!(both(&mut world), [true, false], "under another policy");

    // What is only reported is reported each time.
    world.enforcer.apply(&[&bare.audit()]);
    let mark = world.enforcer.mark();
    for _ in 0..3 {
        assert_eq!(both(&mut world), [true; 2], "audited");
    }
    assert_eq!(world.enforcer.events_since(mark).len(), 6, "one event each");
}

/// A label that says that an unlisted address was allowed is believed; with any one of its facts changed it is not. So each
/// is compared, and the test above would notice if nothing were remembered at all.
#[test]
fn each_fact_counts() {
    let Some(mut world) = World::new("forged", &["tcp"]) else { return };
    assert!(world.may("connect-tcp", LISTED));
    for (to, op, place, flow) in [
        (OTHER_PORT, "connect-tcp", TCP, Flow::TCP_CONNECT),
        (OTHER_V6, "connect-tcp", TCP, Flow::TCP_CONNECT),
        (OTHER_ADDRESS, "sendto", OTHERS, Flow::UDP_CONNECT),
        (OTHER_V6, "sendto", OTHERS, Flow::UDP_CONNECT),
    ] {
        let label = world.label();
        let fact = remembered(&label, to, flow);
        let mut tell = |fact| {
            let mut forged = label;
            forged.allowed[place] = fact;
            pins::set_label(world.actor.pid(), &forged).unwrap();
            world.may(op, to)
        };
        assert_eq!(tell(fact), !decides_each_time(), "{op} {to}");
        let [low, high] = fact.address;
        for (what, other) in [
            ("nothing", AllowedAddress::NONE),
            ("generation", AllowedAddress { generation: fact.generation - 1, ..fact }),
            ("next generation", AllowedAddress { generation: fact.generation + 1, ..fact }),
            ("slot", AllowedAddress { slot: fact.slot ^ 1, ..fact }),
            ("incarnation", AllowedAddress { incarnation: fact.incarnation ^ 1, ..fact }),
            ("first half", AllowedAddress { address: [low ^ 1 << 63, high], ..fact }),
            ("second half", AllowedAddress { address: [low, high ^ 1 << 63], ..fact }),
            ("port", AllowedAddress { port: fact.port ^ 1, ..fact }),
            ("port's high half", AllowedAddress { port: fact.port | 1 << 16, ..fact }),
            ("flow", AllowedAddress { flow: Flow::OTHER_CONNECT.0, ..fact }),
        ] {
            assert!(!tell(other), "{op} {to}: another {what}");
        }
    }
}
