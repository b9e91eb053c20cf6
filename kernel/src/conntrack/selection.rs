//! Which connections are shown, as far as the kernel can tell them apart: a walk past 100,000 of which few are shown takes a tenth of the
//! time that it takes to list them.

use std::fmt;
use std::net::Ipv4Addr;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::conntrack::{ConntrackMessage, IPTuple, Tuple};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::conntrack::connection::{MARK, MARK_MASK};
use crate::conntrack::filter::{BY_SOURCE, flags};
use crate::conntrack::message::{GET, ORIGINAL, REPLY, message, nested};
use crate::family::IpVersion;

/// Some of the connections. An IPv6 address is not to be had: the kernel inverts it (see `Filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All, of both versions of IP in one walk.
    All,
    /// All of a version of IP.
    Of(IpVersion),
    /// Those whose first packet came from this address. Linux before 5.8 shows all of IPv4.
    From(Ipv4Addr),
    /// Those that this address answers: the destination after translation. Linux before 5.8 shows all of IPv4.
    AnsweredBy(Ipv4Addr),
    /// Those that have all of these bits in their mark.
    Marked(u32),
}

impl Selection {
    pub(super) fn message(self) -> NetfilterMessage {
        let get = |attributes| ConntrackMessage::Other { message_type: GET, attributes };
        let by_source = |direction, address: Ipv4Addr, [original, reply]: [u32; 2]| {
            let tuple = [Tuple::Ip(vec![IPTuple::SourceAddress(address.into())])];
            message(IpVersion::V4, get(vec![nested(direction, &tuple), flags(original, reply)]))
        };
        let of_both = |attributes| {
            NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0), get(attributes))
        };
        match self {
            Self::All => of_both(Vec::new()),
            Self::Of(version) => message(version, get(Vec::new())),
            Self::From(address) => by_source(ORIGINAL, address, [BY_SOURCE, 0]),
            Self::AnsweredBy(address) => by_source(REPLY, address, [0, BY_SOURCE]),
            Self::Marked(bits) => {
                of_both([MARK, MARK_MASK].map(|kind| DefaultNla::new(kind, bits.to_be_bytes().to_vec())).to_vec())
            }
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all connections"),
            Self::Of(version) => write!(f, "all connections of IPv{}", version.digit()),
            Self::From(address) => write!(f, "connections from {address}"),
            Self::AnsweredBy(address) => write!(f, "connections answered by {address}"),
            Self::Marked(bits) => write!(f, "connections marked {bits:#x}"),
        }
    }
}
