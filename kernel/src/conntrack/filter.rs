//! A filter of conntrack entries, which the kernel applies as far as it can.

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::conntrack::{ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple};

use crate::conntrack::connection::Connection;
use crate::conntrack::message::{ORIGINAL, REPLY, message, nested};
use crate::family::IpVersion;

/// `CTA_FILTER` and its fields (uapi/linux/netfilter/nfnetlink_conntrack.h).
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
/// `CTA_FILTER_F_*` (net/netfilter/nf_internals.h): which fields of the tuples are compared.
pub(super) const BY_SOURCE: u32 = 1 << 0;
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

/// Which fields of the tuples of both directions are compared.
pub(super) fn flags(of_original: u32, of_reply: u32) -> DefaultNla {
    // Unlike the rest of a message these numbers are in host byte order.
    let flags = [(FILTER_ORIGINAL, of_original), (FILTER_REPLY, of_reply)];
    nested(FILTER, &flags.map(|(kind, flags)| DefaultNla::new(kind, flags.to_ne_bytes().to_vec())))
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
    pub(super) fn asked(&self) -> Self {
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
        let mut attributes = vec![nested(ORIGINAL, &original)];
        attributes.extend(reply.map(|reply| nested(REPLY, &reply)));
        attributes.push(flags(of_original, of_reply));
        attributes
    }

    pub(super) fn message(&self, message_type: u8) -> NetfilterMessage {
        message(self.version, ConntrackMessage::Other { message_type, attributes: self.asked().attributes() })
    }

    pub(super) fn matches(&self, connection: &Connection) -> bool {
        self.protocol == connection.protocol
            && self.destination.is_none_or(|address| address == connection.destination.ip())
            && self.destination_port.is_none_or(|port| port == connection.destination.port())
            && self.reply_source.is_none_or(|address| address == connection.reply_source.ip())
    }
}
