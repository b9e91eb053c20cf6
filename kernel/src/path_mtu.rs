//! The path MTUs that the kernel has learned from ICMP errors, one for each destination (`ip route show cache`).
//!
//! What may not live here: which errors are believed.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use nix::errno::Errno;

use crate::family;
use crate::netlink::error::{Error, Result};
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::sysctl;

/// `RTM_F_CLONED` (uapi/linux/rtnetlink.h): what was learned about a destination, not the route to it.
const CLONED: u32 = 0x200;

/// Forgets everything that was learned about IPv4 paths: the kernel cannot forget that of one destination. A namespace that
/// belongs to a user namespace has no such sysctl (net/ipv4/route.c, `sysctl_route_net_init`): there it is left to expire.
///
/// # Errors
/// When the sysctl cannot be written.
pub fn forget_ipv4() -> Result<()> {
    match sysctl::set_number("net/ipv4/route/flush", 1) {
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES)) => Ok(()),
        done => done,
    }
}

/// Forgets what was learned about the paths to these IPv6 addresses; the others are left out.
///
/// # Errors
/// The kernel's answer.
pub fn forget_ipv6(socket: &mut Socket, destinations: impl Iterator<Item = IpAddr>) -> Result<()> {
    let requests: Vec<_> = destinations.filter(IpAddr::is_ipv6).map(forget).collect();
    let failed: Option<Error> = socket.execute_all(requests).into_iter().map(|(_, error)| error).next();
    failed.map_or(Ok(()), Err)
}

fn forget(destination: IpAddr) -> Request<Message> {
    let mut message = RouteMessage::default();
    message.header.address_family = family::of(destination);
    message.header.destination_prefix_length = family::host(destination).prefix();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = RouteType::Unspec;
    message.header.flags = RouteFlags::from_bits_retain(CLONED);
    if let IpAddr::V6(address) = destination {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet6(address)));
    }
    let operation = format!("forget the path MTU that was learned for {destination}");
    Request::removal(operation, RouteNetlinkMessage::DelRoute(message).into())
}
