//! The expressions that rules are made of, in the form in which the kernel lists them.
//!
//! What may not live here: what a rule means (`rule`), and which field of a packet is loaded (`field`).

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Lookup, Operator, Payload, Register,
};

use crate::family::IpVersion;

/// `NF_ACCEPT` (uapi/linux/netfilter.h): a chain's policy, and a rule's verdict.
pub(super) const ACCEPT: u32 = 1;
/// `NF_DROP`.
pub(super) const DROP: u32 = 0;
/// `NFPROTO_*` (uapi/linux/netfilter.h).
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// `NFT_PAYLOAD_*_HEADER` (uapi/linux/netfilter/nf_tables.h).
pub(super) const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;

/// Where a carried packet begins, in bytes behind the outer IP header: behind UDP, VXLAN and Ethernet (`field`).
const CARRIED: u32 = 30;

/// Where the packet that an ICMP error quotes begins, in bytes behind the outer IP header: behind the header of ICMP
/// (RFC 792; RFC 4443, section 2.1).
const QUOTED: u32 = 8;

/// Which address of a packet is matched.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    /// The address's offset in the network header: RFC 791, section 3.1; RFC 8200, section 3.
    pub(super) fn offset(self, version: IpVersion) -> u32 {
        match (version, self) {
            (IpVersion::V4, Self::Source) => 12,
            (IpVersion::V4, Self::Destination) => 16,
            (IpVersion::V6, Self::Source) => 8,
            (IpVersion::V6, Self::Destination) => 24,
        }
    }
}

/// Where the source address of a carried packet is, in bytes behind the outer IP header.
pub(super) fn carried_source(version: IpVersion) -> u32 {
    CARRIED + Side::Source.offset(version)
}

/// Where the destination address of a quoted packet is, in bytes behind the outer IP header. Options and extension
/// headers of the quoted packet come behind it.
pub(super) fn quoted_destination(version: IpVersion) -> u32 {
    QUOTED + Side::Destination.offset(version)
}

/// Where the protocol of a quoted packet is: that of IPv4, the first next header of IPv6 (RFC 791, RFC 8200).
pub(super) fn quoted_protocol(version: IpVersion) -> u32 {
    match version {
        IpVersion::V4 => QUOTED + 9,
        IpVersion::V6 => QUOTED + 6,
    }
}

/// The netfilter protocol number of an IP version.
pub(super) fn protocol(version: IpVersion) -> u8 {
    match version {
        IpVersion::V4 => NFPROTO_IPV4,
        IpVersion::V6 => NFPROTO_IPV6,
    }
}

/// The register that begins with this word; four words are one of the large registers.
pub(super) fn register(word: usize) -> Register {
    let word = u32::try_from(word).unwrap_or(u32::MAX);
    let (first, small) = (u32::from(Register::Reg1), u32::from(Register::Reg32_00));
    if word.is_multiple_of(4) { (first + word / 4).into() } else { (small + word).into() }
}

/// Loads bytes of a packet into a register.
pub(super) fn payload(register: Register, base: u32, offset: u32, length: usize) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(u32::try_from(length).unwrap_or(u32::MAX)),
    ])
}

pub(super) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

pub(super) fn other(expression_type: &str, attributes: Vec<DefaultNla>) -> Expressions {
    Expressions::Other { expression_type: expression_type.into(), attributes }
}

/// Masks a register.
pub(super) fn mask(register: Register, bits: Vec<u8>) -> Expressions {
    let none = vec![0; bits.len()];
    bitwise(register, bits, none)
}

/// Masks a register, and flips bits.
pub(super) fn bitwise(register: Register, keep: Vec<u8>, turn: Vec<u8>) -> Expressions {
    let length = keep.len();
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(register),
        Bitwise::DestinationRegister(register),
        Bitwise::Length(u32::try_from(length).unwrap_or(u32::MAX)),
        Bitwise::Op(0),
        Bitwise::Mask(DataAttribute::Value(keep)),
        Bitwise::Xor(DataAttribute::Value(turn)),
    ])
}

pub(super) fn compare(value: Vec<u8>) -> Expressions {
    compare_by(Operator::Equal, value)
}

pub(super) fn compare_by(operator: Operator, value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

/// Looks up what begins in a register; what a map has goes to another one.
pub(super) fn lookup(set: &str, from: Register, to: Option<Register>) -> Expressions {
    let mut lookup = vec![Lookup::Set(set.into()), Lookup::SourceRegister(from)];
    lookup.extend(to.map(Lookup::DestinationRegister));
    lookup.push(Lookup::Flags(0));
    Expressions::Lookup(lookup)
}
