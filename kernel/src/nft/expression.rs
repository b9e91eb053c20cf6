//! Rules, built from the kernel's expressions, in the very form in which the kernel lists them: two rules are equal when
//! their expressions are.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Meta, MetaKey, Operator,
    Payload, Register, Verdict, VerdictAttribute,
};

use super::{ACCEPT, List};
use crate::family;

/// `NFPROTO_*` (uapi/linux/netfilter.h).
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// `NFT_PAYLOAD_NETWORK_HEADER` (uapi/linux/netfilter/nf_tables.h).
const NETWORK_HEADER: u32 = 1;
/// `NFTA_MASQ_FLAGS`.
const MASQUERADE_FLAGS: u16 = 1;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY` (uapi/linux/netfilter/nf_nat.h).
const RANDOM_FULLY: u32 = 1 << 4;

/// A rule: matches, then what happens to a packet that passed them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    expressions: Vec<Expressions>,
}

/// Which address of a packet is looked at.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

impl Rule {
    /// A rule that matches every packet.
    pub fn new() -> Self {
        Self::default()
    }

    /// … whose source address is in `prefix`.
    pub fn from(self, prefix: IpNetwork) -> Self {
        self.address(Side::Source, prefix)
    }

    /// … whose destination address is in `prefix`.
    pub fn to(self, prefix: IpNetwork) -> Self {
        self.address(Side::Destination, prefix)
    }

    /// … is accepted.
    pub fn accept(mut self) -> Self {
        let code = VerdictAttribute::Code(Verdict::Other(ACCEPT));
        self.expressions.push(Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(vec![code])),
        ]));
        self
    }

    /// … leaves under the node's address, from a fully random port: two pods that pick one port at once do not meet in
    /// one connection entry.
    pub fn masquerade(mut self) -> Self {
        let flags = DefaultNla::new(MASQUERADE_FLAGS, RANDOM_FULLY.to_be_bytes().to_vec());
        self.expressions.push(Expressions::Other { expression_type: "masq".into(), attributes: vec![flags] });
        self
    }

    fn address(mut self, side: Side, prefix: IpNetwork) -> Self {
        // The address's offset in the network header: RFC 791, section 3.1; RFC 8200, section 3.
        let (protocol, offset) = match (prefix, side) {
            (IpNetwork::V4(_), Side::Source) => (NFPROTO_IPV4, 12),
            (IpNetwork::V4(_), Side::Destination) => (NFPROTO_IPV4, 16),
            (IpNetwork::V6(_), Side::Source) => (NFPROTO_IPV6, 8),
            (IpNetwork::V6(_), Side::Destination) => (NFPROTO_IPV6, 24),
        };
        let network = family::bytes(prefix.network());
        let length = match prefix.network() {
            IpAddr::V4(_) => 4,
            IpAddr::V6(_) => 16,
        };
        self.expressions.extend([
            Expressions::Meta(vec![Meta::Key(MetaKey::Nfproto), Meta::DestinationRegister(Register::Reg1)]),
            compare(vec![protocol]),
            Expressions::Payload(vec![
                Payload::DestinationRegister(Register::Reg1),
                Payload::Base(NETWORK_HEADER),
                Payload::Offset(offset),
                Payload::Len(length),
            ]),
            Expressions::Bitwise(vec![
                Bitwise::SourceRegister(Register::Reg1),
                Bitwise::DestinationRegister(Register::Reg1),
                Bitwise::Length(length),
                Bitwise::Op(0),
                Bitwise::Mask(DataAttribute::Value(family::bytes(prefix.mask()))),
                Bitwise::Xor(DataAttribute::Value(vec![0; network.len()])),
            ]),
            compare(network),
        ]);
        self
    }

    pub(super) fn emit(&self) -> List {
        self.expressions.iter().cloned().map(ListAttribute::from).collect()
    }

    pub(super) fn parse(list: List) -> Self {
        let data = |element| match element {
            ListAttribute::Element(attributes) => attributes.into_iter().find_map(|attribute| match attribute {
                ExpressionAttribute::Data(data) => Some(data),
                _ => None,
            }),
            _ => None,
        };
        Self { expressions: list.into_iter().filter_map(data).collect() }
    }
}

fn compare(value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}
