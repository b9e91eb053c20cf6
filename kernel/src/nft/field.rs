//! Fields of a packet that are looked up in a set: of the packet itself, and of the one that it carries in VXLAN.
//!
//! The carried packet is read at fixed offsets behind the outer IP header: the expression for it (`inner`) exists since
//! Linux 6.2 only.

use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey, Register};

use crate::family::IpVersion;
use crate::nft::encode::{NETWORK_HEADER, Side, TRANSPORT_HEADER, carried_source, mask, payload, quoted_destination};
use crate::nft::field_type::Type;

/// Offsets behind the outer IP header: 8 bytes of UDP (RFC 768), 8 of VXLAN with the VNI in the fifth to the seventh
/// (RFC 7348, section 5), 14 of Ethernet with the type of what follows in the last two.
pub(super) const VNI: (u32, usize) = (12, 3);
pub(super) const ETHERTYPE: (u32, usize) = (28, 2);

/// A field of a packet that is looked up in a set. Addresses are those of the version that the rule has matched before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketField {
    /// The protocol above IP.
    Protocol,
    /// The source address.
    Source(IpVersion),
    /// The destination address.
    Destination(IpVersion),
    /// The destination port of TCP, UDP or SCTP.
    DestinationPort,
    /// The name of the device that the packet came in by.
    IncomingDevice,
    /// The leading bits of the source address of the packet carried in VXLAN, the others being 0.
    CarriedSource(IpVersion, u8),
    /// The destination address of the packet that an ICMP error quotes.
    QuotedDestination(IpVersion),
}

impl PacketField {
    /// The type of the set's field that it is compared with.
    pub fn kind(self) -> Type {
        match self {
            Self::Protocol => Type::Protocol,
            Self::Source(version) | Self::Destination(version) => Type::Address(version),
            Self::CarriedSource(version, _) => Type::CarriedSource(version),
            Self::QuotedDestination(version) => Type::QuotedDestination(version),
            Self::DestinationPort => Type::Port,
            Self::IncomingDevice => Type::DeviceName,
        }
    }

    /// The expressions that load it into a register.
    pub(super) fn load(self, register: Register) -> Vec<Expressions> {
        let length = self.kind().length();
        vec![match self {
            Self::Protocol => Expressions::Meta(vec![Meta::Key(MetaKey::L4Proto), Meta::DestinationRegister(register)]),
            Self::IncomingDevice => {
                Expressions::Meta(vec![Meta::Key(MetaKey::Iifname), Meta::DestinationRegister(register)])
            }
            Self::Source(version) => payload(register, NETWORK_HEADER, Side::Source.offset(version), length),
            Self::Destination(version) => payload(register, NETWORK_HEADER, Side::Destination.offset(version), length),
            // TCP, UDP and SCTP begin alike: RFC 9293, section 3.1; RFC 768; RFC 9260, section 3.1.
            Self::DestinationPort => payload(register, TRANSPORT_HEADER, 2, length),
            Self::QuotedDestination(version) => {
                payload(register, TRANSPORT_HEADER, quoted_destination(version), length)
            }
            Self::CarriedSource(version, bits) => {
                let load = payload(register, TRANSPORT_HEADER, carried_source(version), length);
                if usize::from(bits) == length * 8 {
                    return vec![load];
                }
                return vec![load, mask(register, first_bits(bits, length))];
            }
        }]
    }
}

/// A mask of this length that keeps the leading bits.
fn first_bits(bits: u8, length: usize) -> Vec<u8> {
    let byte = |place: usize| {
        let ones = usize::from(bits).saturating_sub(place * 8).min(8);
        if ones == 0 { 0 } else { u8::MAX << (8 - ones) }
    };
    (0..length).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_keeps_the_leading_bits() {
        assert_eq!(first_bits(24, 4), [255, 255, 255, 0]);
        assert_eq!(first_bits(22, 4), [255, 255, 252, 0]);
        assert_eq!(first_bits(0, 4), [0; 4]);
        assert_eq!(first_bits(33, 5), [255, 255, 255, 255, 128]);
    }
}
