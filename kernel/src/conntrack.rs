//! Conntrack entries: selected by a filter, listed, and deleted.
//!
//! A UDP flow keeps the translation of its first packet: after a change of the rules it goes to the old destination for
//! as long as packets keep coming. Such entries are deleted here; the next packet creates a new one.

mod connection;
mod to_ports;

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, Nla};
use netlink_packet_netfilter::conntrack::{ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::family::IpVersion;
use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

pub use connection::Connection;
pub use to_ports::list_to_ports;

use connection::Listed;

/// `IPCTNL_MSG_CT_*` (uapi/linux/netfilter/nfnetlink_conntrack.h).
const GET: u8 = 1;
const DELETE: u8 = 2;
/// `CTA_*` and the fields of `CTA_FILTER` (same file).
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
/// `CTA_FILTER_F_*` (net/netfilter/nf_internals.h): which fields of the tuples are compared.
const BY_SOURCE: u32 = 1 << 0;
const BY_DESTINATION: u32 = 1 << 1;
const BY_PROTOCOL: u32 = 1 << 3;
const BY_DESTINATION_PORT: u32 = 1 << 5;

/// Selects the connections that match every given field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// The version of IP.
    pub version: IpVersion,
    /// The protocol above IP (`IPPROTO_*`).
    pub protocol: u8,
    /// The original destination.
    pub destination: Option<IpAddr>,
    /// The original destination port.
    pub destination_port: Option<u16>,
    /// The source of replies: the destination after translation.
    pub reply_source: Option<IpAddr>,
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connections of IPv{} and protocol {}", self.version.digit(), self.protocol)?;
        self.destination.map_or(Ok(()), |address| write!(f, " to {address}"))?;
        self.destination_port.map_or(Ok(()), |port| write!(f, " to port {port}"))?;
        self.reply_source.map_or(Ok(()), |address| write!(f, " answered by {address}"))
    }
}

impl Filter {
    /// The filter for the kernel: all fields except IPv6 addresses. The kernel inverts those (seen in Linux 6.18: a
    /// deletion by address spared the flows of that address and removed all others).
    fn asked(&self) -> Self {
        match self.version {
            IpVersion::V4 => *self,
            IpVersion::V6 => Self { destination: None, reply_source: None, ..*self },
        }
    }

    /// The tuples, and which of their fields are compared.
    fn attributes(&self) -> Vec<DefaultNla> {
        let mut protocol = vec![ProtoTuple::Protocol(Protocol::from(self.protocol))];
        protocol.extend(self.destination_port.map(ProtoTuple::DestinationPort));
        let mut original = vec![Tuple::Proto(protocol)];
        original.extend(self.destination.map(|address| Tuple::Ip(vec![IPTuple::DestinationAddress(address)])));
        let reply = self.reply_source.map(|address| [Tuple::Ip(vec![IPTuple::SourceAddress(address)])]);

        let by = |given: bool, flag| if given { flag } else { 0 };
        let of_original = BY_PROTOCOL
            | by(self.destination.is_some(), BY_DESTINATION)
            | by(self.destination_port.is_some(), BY_DESTINATION_PORT);
        let of_reply = by(self.reply_source.is_some(), BY_SOURCE);
        // Unlike the rest of the message these numbers are in host byte order.
        let flags = [(FILTER_ORIGINAL, of_original), (FILTER_REPLY, of_reply)]
            .map(|(kind, flags)| DefaultNla::new(kind, flags.to_ne_bytes().to_vec()));
        let mut attributes = vec![nested(ORIGINAL, &original)];
        attributes.extend(reply.map(|reply| nested(REPLY, &reply)));
        attributes.push(nested(FILTER, &flags));
        attributes
    }

    fn message(&self, message_type: u8) -> NetfilterMessage {
        message(self.version, ConntrackMessage::Other { message_type, attributes: self.asked().attributes() })
    }

    fn matches(&self, connection: &Connection) -> bool {
        self.protocol == connection.protocol
            && self.destination.is_none_or(|address| address == connection.destination.ip())
            && self.destination_port.is_none_or(|port| port == connection.destination.port())
            && self.reply_source.is_none_or(|address| address == connection.reply_source.ip())
    }
}

/// Deletes the connections that match a filter, of any owner. The kernel scans every connection of the machine: 0.2 ms
/// when there are few, 50 ms when there are 100,000. By IPv6 address they are listed first, which takes 11 ms or more.
///
/// # Errors
/// What the kernel refused.
pub fn forget(socket: &mut Socket, filter: &Filter) -> Result<()> {
    if filter.asked() != *filter {
        return forget_one_by_one(socket, filter);
    }
    match socket.execute(Request::new(format!("forget {filter}"), filter.message(DELETE), 0)) {
        // Linux before 6.8 looks for a connection with exactly these tuples, and refuses incomplete ones.
        Err(error) if takes_no_filter(&error) => forget_one_by_one(socket, filter),
        other => other,
    }
}

fn takes_no_filter(error: &Error) -> bool {
    use nix::errno::Errno::{EINVAL, ENOENT, EOPNOTSUPP};
    matches!(error.errno(), Some(EINVAL | ENOENT | EOPNOTSUPP))
}

/// As [`forget`], by listing first: for filters that the kernel does not support.
///
/// # Errors
/// The first error.
pub fn forget_one_by_one(socket: &mut Socket, filter: &Filter) -> Result<()> {
    let connections = list(socket, filter)?;
    forget_each(socket, &connections)
}

/// Deletes these connections. One that has gone is fine.
///
/// # Errors
/// The first error.
pub fn forget_each(socket: &mut Socket, connections: &[Connection]) -> Result<()> {
    let refused = socket.execute_each(connections.iter().map(Connection::delete), drop);
    refused.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// The connections that match a filter.
///
/// # Errors
/// What the kernel refused.
pub fn list(socket: &mut Socket, filter: &Filter) -> Result<Vec<Connection>> {
    // Linux before 5.8 ignores the filter.
    let pick = |Listed(connection): Listed| connection.filter(|connection| filter.matches(connection));
    socket.dump_some(Request::new(format!("list {filter}"), filter.message(GET), 0), pick)
}

/// A nested attribute with the flag that says so, which the kernel requires for a filter.
fn nested<T: Nla>(kind: u16, attributes: &[T]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

fn message(version: IpVersion, inner: ConntrackMessage) -> NetfilterMessage {
    let family = match version {
        IpVersion::V4 => NetfilterProtoFamily::IPv4,
        IpVersion::V6 => NetfilterProtoFamily::IPv6,
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}
