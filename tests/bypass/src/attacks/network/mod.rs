//! Sockets: calling out, and being called.

use crate::attack::Attack;

mod back_door;
mod io_uring_connect;
mod io_uring_send;
mod mptcp_connect;
mod mptcp_subflow;
mod netlink_protocol;
mod ping;
mod raw_other_destination;
mod raw_socket;
mod raw_unspecified;
mod reconnect;
mod routing_header;
mod sctp;
mod sctp_connectx_several;
mod second_datagram;
mod socket_family;
mod source_route;
mod tcp_connect;
mod tcp_fastopen;
mod tcp_fastopen_connect;
mod tun_device;
mod udp_connect;
mod udp_lite;
mod udp_redirect;
mod udp_send;
mod unix_datagram;
mod unix_squat;
mod unix_stream;

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    back_door::ATTACK,
    io_uring_connect::ATTACK,
    io_uring_send::ATTACK,
    mptcp_connect::ATTACK,
    mptcp_subflow::ATTACK,
    netlink_protocol::ATTACK,
    ping::ATTACK,
    raw_other_destination::ATTACK,
    raw_socket::ATTACK,
    raw_unspecified::ATTACK,
    reconnect::ATTACK,
    routing_header::ATTACK,
    sctp::ATTACK,
    sctp_connectx_several::ATTACK,
    second_datagram::ATTACK,
    socket_family::ATTACK,
    source_route::ATTACK,
    tcp_connect::ATTACK,
    tcp_fastopen::ATTACK,
    tcp_fastopen_connect::ATTACK,
    tun_device::ATTACK,
    udp_connect::ATTACK,
    udp_lite::ATTACK,
    udp_redirect::ATTACK,
    udp_send::ATTACK,
    unix_datagram::ATTACK,
    unix_squat::ATTACK,
    unix_stream::ATTACK,
];
