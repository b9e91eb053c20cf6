//! Rules, built from the kernel's expressions in the form in which the kernel lists them: two rules are equal when
//! their bytes are.

use std::fmt;

use ipnetwork::IpNetwork;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Meta, MetaKey, Operator, Register,
    Verdict, VerdictAttribute,
};

use crate::family::{self, IpVersion};
use crate::nft::counter::COUNTER;
use crate::nft::device_name::DeviceName;
use crate::nft::encode::{
    ACCEPT, DROP, NETWORK_HEADER, Side, TRANSPORT_HEADER, bitwise, compare, compare_by, lookup, mask, number, other,
    payload, protocol, register,
};
use crate::nft::field::{self, PacketField};
use crate::nft::field_type::WORD;
use crate::nft::reply;

/// `NFTA_RULE_EXPRESSIONS` (uapi/linux/netfilter/nf_tables.h).
pub(super) const RULE_EXPRESSIONS: u16 = 4;
/// `NFTA_EXPR_*` (uapi/linux/netfilter/nf_tables.h).
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
/// `LOOPBACK_IFINDEX` (net/flow.h).
const LOOPBACK_INDEX: u32 = 1;
/// `NFTA_OBJREF_*`.
const OBJECT_TYPE: u16 = 1;
const OBJECT_NAME: u16 = 2;
/// `ETH_P_IP`, `ETH_P_IPV6` (uapi/linux/if_ether.h).
const ETHERTYPES: [u16; 2] = [0x0800, 0x86dd];
/// `NFTA_NAT_*`, `NFT_NAT_DNAT` (uapi/linux/netfilter/nf_tables.h).
const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_ADDRESS: [u16; 2] = [3, 4];
const NAT_PORT: [u16; 2] = [5, 6];
const NAT_FLAGS: u16 = 7;
const OF_DESTINATION: u32 = 1;
/// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED` (uapi/linux/netfilter/nf_nat.h).
const ADDRESS_AND_PORT: u32 = 1 | 2;
/// `NFTA_DYNSET_*`, `NFT_DYNSET_OP_UPDATE`.
const RECORD_SET: u16 = 1;
const RECORD_OPERATION: u16 = 3;
const RECORD_KEY: u16 = 4;
const RECORD_TIMEOUT: u16 = 6;
const RECORD_FLAGS: u16 = 9;
const UPDATE: u32 = 1;
/// `NFTA_MASQ_FLAGS`.
const MASQUERADE_FLAGS: u16 = 1;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY` (uapi/linux/netfilter/nf_nat.h).
const RANDOM_FULLY: u32 = 1 << 4;

/// A rule: matches, then statements.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// A list of names and data, as in `NFTA_RULE_EXPRESSIONS`.
    expressions: Vec<u8>,
}

impl fmt::Debug for Rule {
    /// The names of its expressions, and their data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |expression, kind| reply::get(expression, kind).unwrap_or_default();
        let expressions = reply::attributes(&self.expressions).map(|(_, expression)| {
            let name = part(expression, EXPRESSION_NAME);
            (String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)), part(expression, EXPRESSION_DATA))
        });
        f.debug_map().entries(expressions).finish()
    }
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

    /// … of this version of IP.
    pub fn of(self, version: IpVersion) -> Self {
        self.meta(MetaKey::Nfproto, vec![protocol(version)])
    }

    /// … that comes in by a device whose name begins so.
    pub fn iifname(self, prefix: &str) -> Self {
        self.meta(MetaKey::Iifname, prefix.into())
    }

    /// … that comes in by the device of this very name.
    pub fn by_device(self, name: &str) -> Self {
        self.meta(MetaKey::Iifname, DeviceName::new(name).bytes())
    }

    /// … that comes in by any other device than the loopback device.
    pub fn not_by_loopback(self) -> Self {
        self.meta_is(MetaKey::Iif, Operator::NotEqual, LOOPBACK_INDEX.to_ne_bytes().into())
    }

    /// … that comes in by the loopback device.
    pub fn by_loopback(self) -> Self {
        self.meta(MetaKey::Iif, LOOPBACK_INDEX.to_ne_bytes().into())
    }

    /// … that goes out by a device whose name begins so.
    pub fn oifname(self, prefix: &str) -> Self {
        self.meta(MetaKey::Oifname, prefix.into())
    }

    /// … gets additional bits in its priority.
    pub fn raise_priority(mut self, bits: u32) -> Self {
        let keep = (!bits).to_ne_bytes().to_vec();
        self.extend([
            Expressions::Meta(vec![Meta::Key(MetaKey::Priority), Meta::DestinationRegister(Register::Reg1)]),
            bitwise(Register::Reg1, keep, bits.to_ne_bytes().to_vec()),
            Expressions::Meta(vec![Meta::Key(MetaKey::Priority), Meta::SourceRegister(Register::Reg1)]),
        ]);
        self
    }

    /// … of this protocol above IP (`IPPROTO_*`), to this port.
    pub fn to_port(self, protocol: u8, port: u16) -> Self {
        let rule = self.meta(MetaKey::L4Proto, vec![protocol]);
        rule.part(payload(Register::Reg1, TRANSPORT_HEADER, 2, 2), port.to_be_bytes().to_vec())
    }

    /// … that carries, in VXLAN, a packet of this VNI and of this version of IP. UDP and the port have been matched
    /// before.
    pub fn carries(self, vni: u32, version: IpVersion) -> Self {
        let [_, vni @ ..] = vni.to_be_bytes();
        let [four, six] = ETHERTYPES;
        let ethertype = match version {
            IpVersion::V4 => four,
            IpVersion::V6 => six,
        };
        let load = |(offset, length)| payload(Register::Reg1, TRANSPORT_HEADER, offset, length);
        self.part(load(field::VNI), vni.to_vec()).part(load(field::ETHERTYPE), ethertype.to_be_bytes().to_vec())
    }

    /// … is counted by a named counter.
    pub fn count(mut self, counter: &str) -> Self {
        let name = DefaultNla::new(OBJECT_NAME, [counter.as_bytes(), &[0]].concat());
        self.push(other("objref", vec![name, number(OBJECT_TYPE, COUNTER)]));
        self
    }

    /// … is not tracked by conntrack, and so never translated.
    pub fn notrack(mut self) -> Self {
        // It has no data, so the kernel lists none.
        let notrack = ListAttribute::Element(vec![ExpressionAttribute::Name("notrack".into())]);
        self.expressions.extend(reply::listed(&notrack));
        self
    }

    /// … whose fields are in a set.
    pub fn in_set(self, set: &str, fields: &[PacketField]) -> Self {
        self.look_up(set, fields, None)
    }

    /// … has its fields recorded in a set that rules add to; one that is there begins its time anew. What a full set cannot take
    /// ends the rule (`NFT_BREAK`, net/netfilter/nft_dynset.c): what has to happen anyway belongs into the next rule.
    pub fn record(mut self, set: &str, fields: &[PacketField]) -> Self {
        self.load(fields);
        // In the kernel's order. Without a timeout of its own an element has the set's.
        self.push(other(
            "dynset",
            vec![
                number(RECORD_KEY, Register::Reg1.into()),
                number(RECORD_OPERATION, UPDATE),
                DefaultNla::new(RECORD_SET, [set.as_bytes(), &[0]].concat()),
                DefaultNla::new(RECORD_TIMEOUT, 0_u64.to_be_bytes().to_vec()),
                number(RECORD_FLAGS, 0),
            ],
        ));
        self
    }

    /// … is accepted.
    pub fn accept(self) -> Self {
        self.verdict(vec![VerdictAttribute::Code(Verdict::Other(ACCEPT))])
    }

    /// … is dropped.
    pub fn drop(self) -> Self {
        self.verdict(vec![VerdictAttribute::Code(Verdict::Other(DROP))])
    }

    /// … jumps to another chain.
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(vec![VerdictAttribute::Code(Verdict::Jump), VerdictAttribute::Chain(chain.into())])
    }

    /// … goes on in another chain, from whose end it returns to where this one was called from.
    pub fn goto(self, chain: &str) -> Self {
        self.verdict(vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain(chain.into())])
    }

    /// … returns to the calling chain.
    pub fn return_(self) -> Self {
        self.verdict(vec![VerdictAttribute::Code(Verdict::Return)])
    }

    /// … gets the verdict of a verdict map, if there is one.
    pub fn vmap(self, map: &str, fields: &[PacketField]) -> Self {
        self.look_up(map, fields, Some(Register::Verdict))
    }

    /// … is translated to the address and the port in a map, if there are any.
    pub fn dnat(self, version: IpVersion, map: &str, fields: &[PacketField]) -> Self {
        let mut rule = self.look_up(map, fields, Some(Register::Reg1));
        let (address, port) = (Register::Reg1.into(), register(version.address_length() / WORD).into());
        let mut attributes = vec![number(NAT_TYPE, OF_DESTINATION), number(NAT_FAMILY, protocol(version).into())];
        attributes.extend(NAT_ADDRESS.map(|kind| number(kind, address)));
        attributes.extend(NAT_PORT.map(|kind| number(kind, port)));
        attributes.push(number(NAT_FLAGS, ADDRESS_AND_PORT));
        rule.push(other("nat", attributes));
        rule
    }

    /// … is masqueraded, from a fully random port: two pods that pick one port at the same time do not collide in one
    /// conntrack entry.
    pub fn masquerade(mut self) -> Self {
        self.push(other("masq", vec![number(MASQUERADE_FLAGS, RANDOM_FULLY)]));
        self
    }

    /// In the form in which the program `nft` writes it, so that a ruleset which it has saved and loaded is the same: a prefix
    /// of whole bytes is compared as these bytes.
    fn address(self, side: Side, prefix: IpNetwork) -> Self {
        let version = IpVersion::of(prefix.ip());
        let network = family::bytes(prefix.network());
        let offset = side.offset(version);
        let rule = self.of(version);
        match usize::from(prefix.prefix()) {
            bits if bits > 0 && bits % 8 == 0 => {
                let whole = network[..bits / 8].to_vec();
                rule.part(payload(Register::Reg1, NETWORK_HEADER, offset, whole.len()), whole)
            }
            _ => {
                let mut rule = rule;
                let load = payload(Register::Reg1, NETWORK_HEADER, offset, network.len());
                rule.extend([load, mask(Register::Reg1, family::bytes(prefix.mask())), compare(network)]);
                rule
            }
        }
    }

    fn part(mut self, load: Expressions, value: Vec<u8>) -> Self {
        self.extend([load, compare(value)]);
        self
    }

    fn meta(self, key: MetaKey, value: Vec<u8>) -> Self {
        self.meta_is(key, Operator::Equal, value)
    }

    fn meta_is(mut self, key: MetaKey, operator: Operator, value: Vec<u8>) -> Self {
        let load = Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]);
        self.extend([load, compare_by(operator, value)]);
        self
    }

    /// Loads fields into the registers, one behind the other.
    fn load(&mut self, fields: &[PacketField]) {
        let mut word = 0;
        for field in fields {
            field.load(register(word)).into_iter().for_each(|load| self.push(load));
            word += field.kind().words();
        }
    }

    fn look_up(mut self, set: &str, fields: &[PacketField], to: Option<Register>) -> Self {
        self.load(fields);
        self.push(lookup(set, Register::Reg1, to));
        self
    }

    fn verdict(mut self, verdict: Vec<VerdictAttribute>) -> Self {
        self.push(Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(verdict)),
        ]));
        self
    }

    pub(super) fn extend<const N: usize>(&mut self, expressions: [Expressions; N]) {
        expressions.into_iter().for_each(|expression| self.push(expression));
    }

    pub(super) fn push(&mut self, expression: Expressions) {
        self.expressions.extend(reply::listed(&ListAttribute::from(expression)));
    }

    pub(super) fn emit(&self) -> Vec<u8> {
        self.expressions.clone()
    }

    pub(super) fn parse(expressions: &[u8]) -> Self {
        Self { expressions: expressions.to_vec() }
    }
}
