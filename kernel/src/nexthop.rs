//! A nexthop object: where packets for a peer go, held once, however many routes point at it. It carries a tunnel, or is
//! the peer itself.
//!
//! `ip nexthop add id N via fe80::… dev podwire.1 onlink encap ip id 1 src … dst … ttl 64`, or without the encap
//! (uapi/linux/nexthop.h, uapi/linux/lwtunnel.h; Linux 5.3). No policy: which ids are ours is a parameter.

use std::{fmt, net::IpAddr, net::Ipv6Addr};

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_CREATE, NLM_F_REPLACE, Nla, NlasIterator, ParseableParametrized,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel, RouteLwEnCapType, RouteLwTunnelEncap,
};

use crate::family::{self, IpVersion};
use crate::message::{DELETE_NEXTHOP, GET_NEXTHOP, Message, NEW_NEXTHOP, Plain};
use crate::{Error, Request, Result, Socket};

const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const RTNH_F_ONLINK: u32 = 4;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// The hop limit of the outer packet.
const OUTER_TTL: u8 = 64;

/// One peer as the kernel's routes see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nexthop {
    /// The object's id, unique in the namespace.
    pub id: u32,
    /// Index of the device: the tunnel, or the interface that the peer is a neighbour on.
    pub device: u32,
    /// The next hop: with a tunnel the peer's link-local address on the overlay, else its address on the link. One of IPv6
    /// serves routes of both families, one of IPv4 those of IPv4 only.
    pub gateway: IpAddr,
    /// With a tunnel: where the packet is sent, and as what.
    pub encap: Option<Encap>,
    /// Who installed it (`RTPROT_*`): the mark of ownership.
    pub protocol: u8,
}

/// The outer header that a nexthop puts before a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encap {
    /// The VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// This node's underlay address. Given, since the kernel's own choice on a node with several addresses is one that
    /// the peer does not expect.
    pub source: IpAddr,
    /// The peer's underlay address, of the same family.
    pub destination: IpAddr,
}

impl Nexthop {
    /// Creates this nexthop, or replaces the one with this id in place: no packet is lost.
    pub fn replace(&self) -> Request<Message> {
        let attribute = |kind, value: &[u8]| DefaultNla::new(kind, value.to_vec());
        let mut attributes = vec![
            attribute(NHA_ID, &self.id.to_ne_bytes()),
            attribute(NHA_OIF, &self.device.to_ne_bytes()),
            attribute(NHA_GATEWAY, &family::bytes(self.gateway)),
        ];
        if let Some(encap) = &self.encap {
            let (kind, encap) = encap.attributes();
            let mut nested = vec![0; encap.as_slice().buffer_len()];
            encap.as_slice().emit(&mut nested);
            attributes.push(attribute(NHA_ENCAP_TYPE, &u16::from(kind).to_ne_bytes()));
            attributes.push(attribute(NHA_ENCAP | NESTED, &nested));
        }
        let message = plain(NEW_NEXTHOP, family::of(self.gateway), self.protocol, RTNH_F_ONLINK, attributes);
        Request::new(format!("set nexthop {self}"), message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes this nexthop, and with it the routes that point at it.
    pub fn delete(&self) -> Request<Message> {
        let attributes = vec![DefaultNla::new(NHA_ID, self.id.to_ne_bytes().to_vec())];
        let message = plain(DELETE_NEXTHOP, AddressFamily::Unspec, 0, 0, attributes);
        Request::removal(format!("remove nexthop {self}"), message)
    }
}

/// Every nexthop object of the namespace: those installed by `protocol`, and the ids of all others, which are taken. One
/// of ours that somebody has made into something else is listed without a device or with an [`Encap::UNKNOWN`], so that it
/// differs from whatever is wanted.
pub fn list(socket: &mut Socket, protocol: u8) -> Result<(Vec<Nexthop>, Vec<u32>)> {
    let wish = "list nexthops";
    let ask = plain(GET_NEXTHOP, AddressFamily::Unspec, 0, 0, Vec::new());
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for answer in socket.dump(Request::new(wish, ask, 0))? {
        let Message::Plain(message) = answer else { continue };
        let id = attribute(&message, NHA_ID).and_then(|value| value.try_into().ok()).map(u32::from_ne_bytes);
        let Some(id) = id else { return Err(Error::unreadable(wish, "a nexthop without an id")) };
        let [_, _, owner, ..] = message.header;
        if owner == protocol {
            ours.push(parse(&message, id, protocol));
        } else {
            others.push(id);
        }
    }
    Ok((ours, others))
}

fn parse(message: &Plain, id: u32, protocol: u8) -> Nexthop {
    let device = attribute(message, NHA_OIF).and_then(|value| value.try_into().ok()).map(u32::from_ne_bytes);
    let gateway = attribute(message, NHA_GATEWAY);
    let gateway = gateway.and_then(|value| IpVersion::BOTH.iter().find_map(|version| version.address(&value)));
    let kind = attribute(message, NHA_ENCAP_TYPE);
    let encap = |nested| kind.and_then(|kind| Encap::parse(kind, nested)).unwrap_or(Encap::UNKNOWN);
    Nexthop {
        id,
        device: device.unwrap_or(0),
        gateway: gateway.unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
        encap: attribute(message, NHA_ENCAP).map(encap),
        protocol,
    }
}

fn attribute(message: &Plain, kind: u16) -> Option<Vec<u8>> {
    let found = message.attributes.iter().find(|attribute| attribute.kind() & TYPE_MASK == kind)?;
    let mut value = vec![0; found.value_len()];
    found.emit_value(&mut value);
    Some(value)
}

fn plain(kind: u16, family: AddressFamily, protocol: u8, flags: u32, attributes: Vec<DefaultNla>) -> Message {
    let [a, b, c, d] = flags.to_ne_bytes();
    Message::Plain(Plain { kind, header: [family.into(), 0, protocol, 0, a, b, c, d], attributes })
}

impl Encap {
    /// A tunnel that nobody wants: what stands for one of another shape.
    pub const UNKNOWN: Self = Self {
        vni: u32::MAX,
        source: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        destination: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };

    fn attributes(&self) -> (RouteLwEnCapType, Vec<RouteLwTunnelEncap>) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let fields = vec![
                    RouteIpTunnel::Id(self.vni.into()),
                    RouteIpTunnel::Destination(destination),
                    RouteIpTunnel::Source(source),
                    RouteIpTunnel::Ttl(OUTER_TTL),
                ];
                (RouteLwEnCapType::Ip, fields.into_iter().map(RouteLwTunnelEncap::Ip).collect())
            }
            (source, destination) => {
                let wide = |address| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                let fields = vec![
                    RouteIp6Tunnel::Id(self.vni.into()),
                    RouteIp6Tunnel::Destination(wide(destination)),
                    RouteIp6Tunnel::Source(wide(source)),
                    RouteIp6Tunnel::Hoplimit(OUTER_TTL),
                    // Without it the outer UDP checksum is 0, which a receiver drops on IPv6 (RFC 6935; measured).
                    RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::Checksum),
                ];
                (RouteLwEnCapType::Ip6, fields.into_iter().map(RouteLwTunnelEncap::Ip6).collect())
            }
        }
    }

    /// Reads the attributes back; `None` for another kind of tunnel or one that lacks a field or sets another, so that what was
    /// changed by a stranger's hand differs from what is wanted.
    fn parse(kind: Vec<u8>, nested: Vec<u8>) -> Option<Self> {
        let kind = RouteLwEnCapType::from(u16::from_ne_bytes(kind.try_into().ok()?));
        let (mut vni, mut source, mut destination, mut ttl, mut checksum) = (None, None, None, 0, false);
        for attribute in NlasIterator::new(nested.as_slice()) {
            match RouteLwTunnelEncap::parse_with_param(&attribute.ok()?, kind).ok()? {
                RouteLwTunnelEncap::Ip(RouteIpTunnel::Id(id)) => vni = Some(id),
                RouteLwTunnelEncap::Ip(RouteIpTunnel::Source(address)) => source = Some(address.into()),
                RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(address)) => destination = Some(address.into()),
                RouteLwTunnelEncap::Ip(RouteIpTunnel::Ttl(value)) => ttl = value,
                RouteLwTunnelEncap::Ip(RouteIpTunnel::Tos(tos)) | RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Tc(tos))
                    if tos != 0 =>
                {
                    return None;
                }
                RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Id(id)) => vni = Some(id),
                RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Source(address)) => source = Some(IpAddr::V6(address)),
                RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Destination(address)) => destination = Some(address.into()),
                RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Hoplimit(value)) => ttl = value,
                RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Flags(flags)) => {
                    checksum = flags.contains(RouteIp6TunnelFlags::Checksum);
                }
                _ => {}
            }
        }
        let encap = Self { vni: u32::try_from(vni?).ok()?, source: source?, destination: destination? };
        (ttl == OUTER_TTL && (encap.destination.is_ipv4() || checksum)).then_some(encap)
    }
}

impl fmt::Display for Nexthop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.id, self.gateway)?;
        match self.encap {
            Some(Encap { vni, source, destination }) => write!(f, " (VNI {vni} from {source} to {destination})"),
            None => write!(f, " dev {}", self.device),
        }
    }
}
