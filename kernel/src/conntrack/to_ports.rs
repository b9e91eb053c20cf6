//! The connections to some ports, of both versions of IP, found in the way that is faster now.

use std::collections::BTreeSet;

use crate::conntrack::connection::{Connection, Listed};
use crate::conntrack::few::few;
use crate::conntrack::filter::Filter;
use crate::conntrack::message::GET;
use crate::family::IpVersion;
use crate::netlink::error::Result;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// The connections of a protocol (`IPPROTO_*`) to any of these ports as their senders wrote them. The socket has to be of
/// the namespace of this thread.
///
/// # Errors
/// What the kernel refused.
pub fn list_to_ports(socket: &mut Socket, protocol: u8, ports: &BTreeSet<u16>) -> Result<Vec<Connection>> {
    let is_meant =
        |connection: &Connection| connection.protocol == protocol && ports.contains(&connection.destination.port());
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(few) = few(socket)? {
        return Ok(few.into_iter().filter(is_meant).collect());
    }
    let mut connections = Vec::new();
    // The kernel compares one port at most.
    let destination_port = ports.first().copied().filter(|_| ports.len() == 1);
    for version in IpVersion::BOTH {
        let filter = Filter { version, protocol, destination: None, destination_port, reply_source: None };
        let pick = |Listed(connection): Listed| connection.filter(is_meant);
        connections.extend(socket.dump_some(Request::new(format!("list {filter}"), filter.message(GET), 0), pick)?);
    }
    Ok(connections)
}
