//! Reaching out, and being reached.

use enforcer_common::hook::Hook::{
    PathMknod, SocketBind, SocketConnect, SocketCreate, SocketListen, SocketSendmsg, UnixMaySend,
    UnixStreamConnect,
};
use enforcer_common::verdict::Family::{File, Network};
use enforcer_common::verdict::Reason::{NoRule, SocketFamily};
use enforcer_vm_tests::scenario::{Case, Table, case};
use enforcer_vm_tests::servers;

/// Sockets may be had; where they lead is the question.
fn with_sockets(case: Case) -> Case {
    case.given("network.families", "inet").given("network.families", "inet6")
}

fn reach(attack: &'static str, op: &[&str], rule: &str, peer: &str) -> Case {
    with_sockets(case(attack, op)).allowed_by("network.connect", rule).about(peer)
}

#[test]
fn calling_home() {
    let connect = |attack, op: &[&str], rule: &str, peer: &str| {
        reach(attack, op, rule, peer).refused(SocketConnect, Network, NoRule)
    };
    let send = |attack, op: &[&str], rule: &str, peer: &str| {
        reach(attack, op, rule, peer).refused(SocketSendmsg, Network, NoRule)
    };
    Table::new(
        "calling-home",
        vec![
            connect("TCP over IPv4", &["connect-tcp", "{tcp4}"], "tcp {tcp4}", "{tcp4}"),
            connect("TCP over IPv6", &["connect-tcp", "{tcp6}"], "tcp {tcp6}", "{tcp6}"),
            connect("TCP to a v4-mapped address", &["connect-tcp", "{tcp4-mapped}"], "tcp {tcp4}", "{tcp4}"),
            connect("MPTCP", &["connect-mptcp", "{tcp4}"], "tcp {tcp4}", "{tcp4}").optional(),
            connect("UDP connect over IPv4", &["connect-udp", "{udp4}"], "udp {udp4}", "{udp4}"),
            connect("UDP connect over IPv6", &["connect-udp", "{udp6}"], "udp {udp6}", "{udp6}"),
            connect("TCP_FASTOPEN_CONNECT", &["fastopen-connect", "{tcp4}"], "tcp {tcp4}", "{tcp4}"),
            send("UDP sendto over IPv4", &["sendto", "{udp4}"], "udp {udp4}", "{udp4}"),
            send("UDP sendto over IPv6", &["sendto", "{udp6}"], "udp {udp6}", "{udp6}"),
            send("UDP sendmsg", &["sendmsg", "{udp4}"], "udp {udp4}", "{udp4}"),
            send("MSG_FASTOPEN connects without connect", &["fastopen", "{tcp4}"], "tcp {tcp4}", "{tcp4}"),
            send("MSG_FASTOPEN over IPv6", &["fastopen", "{tcp6}"], "tcp {tcp6}", "{tcp6}"),
        ],
    )
    .check();
}

/// The rule names the right host but the wrong protocol or port.
#[test]
fn calling_home_beside_the_rule() {
    Table::new(
        "beside-the-rule",
        vec![
            reach("TCP where UDP is listed", &["connect-tcp", "{tcp4}"], "tcp {tcp4}", "{tcp4}")
                .given("network.connect", "udp {tcp4}")
                .refused(SocketConnect, Network, NoRule),
            reach("another port", &["connect-tcp", "{tcp6}"], "tcp {tcp6}", "{tcp6}")
                .given("network.connect", "tcp [::1]:1-1023")
                .refused(SocketConnect, Network, NoRule),
            reach(
                "connect where allowed, send elsewhere",
                &["sendto-after-connect", "{udp4}", "{decoy4}"],
                "udp {decoy4}",
                "{decoy4}",
            )
            .given("network.connect", "udp {udp4}")
            .refused(SocketSendmsg, Network, NoRule),
        ],
    )
    // The third row sends nothing where it is allowed: it only connects a datagram socket there.
    .check();
}

#[test]
fn opening_a_back_door() {
    let bind = |attack, op: &[&str], rule: &str, at: &str| {
        with_sockets(case(attack, op))
            .allowed_by("network.bind", rule)
            .refused(SocketBind, Network, NoRule)
            .about(at)
    };
    Table::new(
        "back-door",
        vec![
            bind("bind TCP", &["bind-tcp", "127.0.0.1:4444"], "tcp 127.0.0.1:4444", "127.0.0.1:4444"),
            bind(
                "bind TCP to all addresses",
                &["bind-tcp", "0.0.0.0:4445"],
                "tcp 0.0.0.0:4445",
                "0.0.0.0:4445",
            ),
            bind("bind TCP over IPv6", &["bind-tcp", "[::1]:4446"], "tcp [::1]:4446", "[::1]:4446"),
            bind("bind UDP", &["bind-udp", "127.0.0.1:4447"], "udp 127.0.0.1:4447", "127.0.0.1:4447"),
            bind("bind and listen", &["listen", "127.0.0.1:4448"], "tcp 127.0.0.1:4448", "127.0.0.1:4448"),
            with_sockets(case("listen without bind", &["listen-unbound"]))
                .allowed_by("network.bind", "tcp 0.0.0.0:0")
                .refused(SocketListen, Network, NoRule),
        ],
    )
    .check();
}

#[test]
fn talking_to_a_local_service() {
    let stream = "/tmp/service.sock";
    let datagram = "/tmp/datagram.sock";
    for name in [stream, datagram] {
        let _ = std::fs::remove_file(name);
    }
    let counts = [
        servers::unix_stream(stream),
        servers::unix_stream("@service"),
        servers::unix_datagram(datagram),
        servers::unix_datagram("@datagram"),
    ];
    let connect = |attack, op: &[&str], name: &str| {
        case(attack, op)
            .given("network.families", "unix")
            .allowed_by("network.connect", &format!("unix {name}"))
            .about(name)
    };
    Table::new(
        "local-services",
        vec![
            connect("stream socket by path", &["unix-connect", stream], stream).refused(
                UnixStreamConnect,
                Network,
                NoRule,
            ),
            connect("stream socket by abstract name", &["unix-connect", "@service"], "@service").refused(
                UnixStreamConnect,
                Network,
                NoRule,
            ),
            connect("datagram by path", &["unix-sendto", datagram], datagram).refused(
                UnixMaySend,
                Network,
                NoRule,
            ),
            connect("datagram by abstract name", &["unix-sendto", "@datagram"], "@datagram").refused(
                UnixMaySend,
                Network,
                NoRule,
            ),
            case("squat on a socket path", &["unix-bind", "{dir}/evil.sock"])
                .given("network.families", "unix")
                .allowed_by("network.bind", "unix {dir}/evil.sock")
                .refused(PathMknod, File, NoRule)
                .needing("unix-bind")
                .about("{dir}/evil.sock")
                // bind(2) says EACCES or EPERM as the hook does; the hook says EPERM.
                .errno(libc::EPERM),
            case("squat on an abstract name", &["unix-bind", "@evil"])
                .given("network.families", "unix")
                .allowed_by("network.bind", "unix @evil")
                .refused(SocketBind, Network, NoRule)
                .needing("unix-bind")
                .about("@evil"),
        ],
    )
    .check();
    // Bare, listed, neighbour, host and audited: five passes out of six reached each service.
    if !enforcer_vm_tests::enforcer::baseline_only() {
        assert_eq!(counts.each_ref().map(servers::Count::arrivals), [5; 4]);
    }
}

#[test]
fn sockets_of_unusual_families() {
    let family = |attack, words: &[&str], name: &str| {
        case(attack, words)
            .allowed_by("network.families", name)
            .refused(SocketCreate, Network, SocketFamily)
            .optional()
    };
    Table::new(
        "families",
        vec![
            family("netlink", &["socket", "netlink", "raw"], "netlink"),
            family("crypto API sockets", &["socket", "alg", "seqpacket"], "alg"),
            family("sniffing", &["socket", "packet", "dgram"], "packet"),
            family("talking to the hypervisor", &["socket", "vsock", "stream"], "vsock"),
            family("IPv4 where no address is listed", &["socket", "inet", "stream"], "inet"),
            family("IPv6 where no address is listed", &["socket", "inet6", "dgram"], "inet6"),
        ],
    )
    .check();
}

#[test]
fn raw_sockets() {
    Table::new(
        "raw-sockets",
        vec![
            case("raw IPv4", &["socket", "inet", "raw", "1"])
                .given("network.families", "inet")
                .allowed_by("network.raw", "true")
                .refused(SocketCreate, Network, SocketFamily),
            case("raw IPv6", &["socket", "inet6", "raw", "58"])
                .given("network.families", "inet6")
                .allowed_by("network.raw", "true")
                .refused(SocketCreate, Network, SocketFamily),
        ],
    )
    .check();
}
