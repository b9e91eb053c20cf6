//! Matches of a rule by the packet that an ICMP error quotes. It is read at fixed places: options and extension headers of
//! the quoted packet come behind them.
//!
//! What may not live here: which errors are dropped.

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey, Operator, Register};

use crate::family::{self, IpVersion};
use crate::nft::encode::{
    TRANSPORT_HEADER, compare, compare_by, mask, payload, protocol, quoted_destination, quoted_protocol,
};
use crate::nft::rule::Rule;

/// `IPPROTO_*` (uapi/linux/in.h, uapi/linux/in6.h).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// "Destination unreachable: fragmentation needed" (RFC 792), type and code; "packet too big" (RFC 4443, section 3.2), whose
/// code is ignored.
const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
const PACKET_TOO_BIG: [u8; 1] = [2];

impl Rule {
    /// … that is an ICMP error of this version by which a packet was too large for a link.
    pub fn says_too_large(mut self, version: IpVersion) -> Self {
        let (number, error) = match version {
            IpVersion::V4 => (ICMP, FRAGMENTATION_NEEDED.to_vec()),
            IpVersion::V6 => (ICMPV6, PACKET_TOO_BIG.to_vec()),
        };
        self.extend(meta(MetaKey::Nfproto, protocol(version)));
        self.extend(meta(MetaKey::L4Proto, number));
        self.extend([payload(Register::Reg1, TRANSPORT_HEADER, 0, error.len()), compare(error)]);
        self
    }

    /// … that quotes a packet of TCP, without extension headers in IPv6.
    pub fn quotes_tcp(mut self, version: IpVersion) -> Self {
        self.extend([payload(Register::Reg1, TRANSPORT_HEADER, quoted_protocol(version), 1), compare(vec![TCP])]);
        self
    }

    /// … that quotes a packet to an address in a prefix: in the form of the program `nft`, a prefix of whole bytes is
    /// compared as these bytes.
    pub fn quotes_to(mut self, prefix: IpNetwork) -> Self {
        let network = family::bytes(prefix.network());
        let load = |length| {
            let offset = quoted_destination(IpVersion::of(prefix.ip()));
            payload(Register::Reg1, TRANSPORT_HEADER, offset, length)
        };
        match usize::from(prefix.prefix()) {
            bits if bits > 0 && bits % 8 == 0 => self.extend([load(bits / 8), compare(network[..bits / 8].to_vec())]),
            _ => {
                let masked = mask(Register::Reg1, family::bytes(prefix.mask()));
                self.extend([load(network.len()), masked, compare(network)]);
            }
        }
        self
    }

    /// … that quotes enough of a packet to have its whole destination address, which is not the unspecified one.
    pub fn quotes_destination(mut self, version: IpVersion) -> Self {
        let length = version.address_length();
        let load = payload(Register::Reg1, TRANSPORT_HEADER, quoted_destination(version), length);
        self.extend([load, compare_by(Operator::NotEqual, vec![0; length])]);
        self
    }
}

fn meta(key: MetaKey, value: u8) -> [Expressions; 2] {
    let load = Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]);
    [load, compare(vec![value])]
}
