//! A nexthop object: one for each peer, however many routes refer to it. It has tunnel attributes, or is the peer's
//! address on the link.
//!
//! `ip nexthop add id N via fe80::… dev podwire.1 onlink encap ip id 1 src … dst … ttl 64`, or without the encap
//! (uapi/linux/nexthop.h, uapi/linux/lwtunnel.h; Linux 5.3). No policy: the caller chooses the ids.

use std::{fmt, net::IpAddr, net::Ipv6Addr};

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkDeserializable, NetlinkHeader,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel, RouteLwEnCapType, RouteLwTunnelEncap,
};

use crate::family::{self, IpVersion};
use crate::netlink::attribute::{attributes, number};
use crate::netlink::error::Result;
use crate::netlink::message::{DELETE_NEXTHOP, GET_NEXTHOP, Message, NEW_NEXTHOP, Plain};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const RTNH_F_ONLINK: u32 = 4;
const NESTED: u16 = 0x8000;
const HEADER: usize = 8;

/// `enum lwtunnel_ip_t` and, with the same numbers, `enum lwtunnel_ip6_t` (uapi/linux/lwtunnel.h).
const LWTUNNEL_IP_ID: u16 = 1;
const LWTUNNEL_IP_DST: u16 = 2;
const LWTUNNEL_IP_SRC: u16 = 3;
const LWTUNNEL_IP_TTL: u16 = 4;
const LWTUNNEL_IP_TOS: u16 = 5;
const LWTUNNEL_IP_FLAGS: u16 = 6;
/// `TUNNEL_CSUM` (uapi/linux/if_tunnel.h).
const TUNNEL_CSUM: u16 = 1;

/// The TTL of the outer packet.
const OUTER_TTL: u8 = 64;

/// A nexthop object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nexthop {
    /// The object's id, unique in the namespace.
    pub id: u32,
    /// Index of the device: the tunnel, or the interface to the link of the peer.
    pub device: u32,
    /// The gateway: with a tunnel the peer's link-local address on the overlay, else its address on the link. An IPv6
    /// gateway serves routes of both families, an IPv4 one those of IPv4 only.
    pub gateway: IpAddr,
    /// The tunnel attributes, with a tunnel.
    pub encap: Option<Encap>,
    /// Its origin (`RTPROT_*`): the mark of ownership.
    pub protocol: u8,
}

/// The tunnel attributes: the outer header that a nexthop adds to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encap {
    /// The VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// This node's underlay address. Set, since on a node with several addresses the kernel may choose one that the
    /// peer does not expect.
    pub source: IpAddr,
    /// The peer's underlay address, of the same family.
    pub destination: IpAddr,
}

impl Nexthop {
    /// Creates this nexthop, or replaces in place the one with this id: no packet is lost.
    pub fn replace(&self) -> Request<Message> {
        self.set(NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Creates this nexthop; "File exists" when there is one with this id, which may be foreign.
    pub fn add(&self) -> Request<Message> {
        self.set(NLM_F_CREATE | NLM_F_EXCL)
    }

    fn set(&self, flags: u16) -> Request<Message> {
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
        Request::new(format!("set nexthop {self}"), message, flags)
    }

    /// Removes this nexthop, and with it the routes that refer to it.
    pub fn delete(&self) -> Request<Message> {
        let attributes = vec![DefaultNla::new(NHA_ID, self.id.to_ne_bytes().to_vec())];
        let message = plain(DELETE_NEXTHOP, AddressFamily::Unspec, 0, 0, attributes);
        Request::removal(format!("remove nexthop {self}"), message)
    }
}

/// Every nexthop object of the namespace: those of `protocol`, and the ids of all others, which are taken. One of ours
/// that was changed into another kind is listed without a device or with [`Encap::UNKNOWN`], so that it differs from
/// any desired one.
pub fn list(socket: &mut Socket, protocol: u8) -> Result<(Vec<Nexthop>, Vec<u32>)> {
    let operation = "list nexthops";
    let query = plain(GET_NEXTHOP, AddressFamily::Unspec, 0, 0, Vec::new());
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for Reply(nexthop) in socket.dump_some(Request::new(operation, query, 0), Some::<Reply>)? {
        match nexthop.protocol == protocol {
            true => ours.push(nexthop),
            false => others.push(nexthop.id),
        }
    }
    Ok((ours, others))
}

/// Whether the namespace has these nexthop objects: each is queried by its id.
///
/// # Errors
/// When the kernel refuses.
pub fn has_all<'a>(socket: &mut Socket, nexthops: impl IntoIterator<Item = &'a Nexthop>) -> Result<bool> {
    let wanted: Vec<_> = nexthops.into_iter().collect();
    let query = |nexthop: &&Nexthop| {
        let attributes = vec![DefaultNla::new(NHA_ID, nexthop.id.to_ne_bytes().to_vec())];
        let message = plain(GET_NEXTHOP, AddressFamily::Unspec, 0, 0, attributes);
        Request::new(format!("look up nexthop {}", nexthop.id), message, 0)
    };
    let replies = socket.get_all(wanted.iter().map(query).collect())?;
    let same = |(wanted, found): (&&Nexthop, Option<Reply>)| found.is_some_and(|Reply(found)| found == **wanted);
    Ok(wanted.iter().zip(replies).all(same))
}

/// A nexthop object in a message from the kernel, read in place (`struct nhmsg`, uapi/linux/nexthop.h).
struct Reply(Nexthop);

impl NetlinkDeserializable for Reply {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, DecodeError> {
        let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or("a nexthop shorter than its header")?;
        let [_, _, protocol, ..] = *header;
        let (mut id, mut device, mut gateway, mut kind, mut encap) = (None, None, None, None, None);
        for (attribute, value) in attributes(rest) {
            match attribute {
                NHA_ID => id = number(value),
                NHA_OIF => device = number(value),
                NHA_GATEWAY => gateway = IpVersion::BOTH.iter().find_map(|version| version.address(value)),
                NHA_ENCAP_TYPE => kind = value.try_into().ok().map(u16::from_ne_bytes),
                NHA_ENCAP => encap = Some(value),
                _ => {}
            }
        }
        let encap = encap.map(|encap| kind.and_then(|kind| Encap::parse(kind, encap)).unwrap_or(Encap::UNKNOWN));
        Ok(Self(Nexthop {
            id: id.ok_or("a nexthop without an id")?,
            device: device.unwrap_or(0),
            gateway: gateway.unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
            encap,
            protocol,
        }))
    }
}

fn plain(kind: u16, family: AddressFamily, protocol: u8, flags: u32, attributes: Vec<DefaultNla>) -> Message {
    let [a, b, c, d] = flags.to_ne_bytes();
    Message::Plain(Plain { kind, header: [family.into(), 0, protocol, 0, a, b, c, d], attributes })
}

impl Encap {
    /// Stands for tunnel attributes of another kind; never desired.
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

    /// Reads the attributes back; `None` for another kind of tunnel, a missing field or an additional one, so that a
    /// nexthop changed by others differs from the desired one.
    fn parse(kind: u16, nested: &[u8]) -> Option<Self> {
        // The attributes of the two families have the same numbers.
        let version = match RouteLwEnCapType::from(kind) {
            RouteLwEnCapType::Ip => IpVersion::V4,
            RouteLwEnCapType::Ip6 => IpVersion::V6,
            _ => return None,
        };
        let (mut vni, mut source, mut destination, mut ttl, mut checksum) = (None, None, None, None, false);
        for (kind, value) in attributes(nested) {
            match kind {
                LWTUNNEL_IP_ID => vni = value.try_into().ok().map(u64::from_be_bytes),
                LWTUNNEL_IP_DST => destination = version.address(value),
                LWTUNNEL_IP_SRC => source = version.address(value),
                LWTUNNEL_IP_TTL => ttl = value.first().copied(),
                LWTUNNEL_IP_TOS if value != [0] => return None,
                LWTUNNEL_IP_FLAGS => {
                    checksum = value.try_into().ok().map(u16::from_be_bytes)? & TUNNEL_CSUM != 0;
                }
                _ => {}
            }
        }
        let encap = Self { vni: u32::try_from(vni?).ok()?, source: source?, destination: destination? };
        (ttl == Some(OUTER_TTL) && (version == IpVersion::V4 || checksum)).then_some(encap)
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
