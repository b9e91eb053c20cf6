//! Matches of a rule by the packet that an ICMP error quotes. It is read at fixed places: options and extension headers of
//! the quoted packet come behind them.
//!
//! What may not live here: which errors are dropped.

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::{Operator, Register};

use crate::family::{self, IpVersion};
use crate::nft::encode::{TRANSPORT_HEADER, compare, compare_by, mask, payload, quoted_destination, quoted_protocol};
use crate::nft::rule::Rule;

/// `IPPROTO_TCP` (uapi/linux/in.h).
const TCP: u8 = 6;

impl Rule {
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
