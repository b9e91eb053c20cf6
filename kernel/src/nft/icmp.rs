//! Matches of a rule by the type of an ICMP message.
//!
//! What may not live here: matches by the packet that an ICMP error quotes (`quoted`).

use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey, Register};

use crate::family::IpVersion;
use crate::nft::encode::{TRANSPORT_HEADER, compare, payload, protocol};
use crate::nft::rule::Rule;

/// `IPPROTO_*` (uapi/linux/in.h, uapi/linux/in6.h).
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// "Destination unreachable: fragmentation needed" (RFC 792), type and code; "packet too big" (RFC 4443, section 3.2), whose
/// code is ignored.
const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
const PACKET_TOO_BIG: [u8; 1] = [2];
/// Neighbour solicitation and advertisement (RFC 4861, sections 4.3 and 4.4).
const NEIGHBOUR_DISCOVERY: [u8; 2] = [135, 136];

impl Rule {
    /// … that is an ICMP error of this version by which a packet was too large for a link.
    pub fn says_too_large(self, version: IpVersion) -> Self {
        match version {
            IpVersion::V4 => self.icmp(version, ICMP, &FRAGMENTATION_NEEDED),
            IpVersion::V6 => self.icmp(version, ICMPV6, &PACKET_TOO_BIG),
        }
    }

    /// Rules that match what asks for a neighbour's link-layer address, and what says it, over IPv6.
    pub fn neighbour_discovery() -> [Self; 2] {
        NEIGHBOUR_DISCOVERY.map(|kind| Self::new().icmp(IpVersion::V6, ICMPV6, &[kind]))
    }

    /// … that is an ICMP message which begins with these bytes.
    fn icmp(mut self, version: IpVersion, number: u8, first: &[u8]) -> Self {
        self.extend(meta(MetaKey::Nfproto, protocol(version)));
        self.extend(meta(MetaKey::L4Proto, number));
        self.extend([payload(Register::Reg1, TRANSPORT_HEADER, 0, first.len()), compare(first.to_vec())]);
        self
    }
}

fn meta(key: MetaKey, value: u8) -> [Expressions; 2] {
    let load = Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]);
    [load, compare(vec![value])]
}
