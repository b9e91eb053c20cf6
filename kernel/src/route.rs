//! A route of the main table. Below is its text. What may not live here: what the kernel has learned of a path (`path_mtu`).

mod display;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{
    DecodeError, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkDeserializable, NetlinkHeader,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};
use nix::errno::Errno;

use crate::family::{self, IpVersion};
use crate::netlink::attribute::{attributes, number};
use crate::netlink::error::{Error, Result};
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// `IP6_RT_PRIO_USER` (include/net/ip6_route.h): what the kernel makes of a metric of 0 in IPv6.
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// The MTU among the metrics that are locked (`RTAX_LOCK`): IPv6 forwards by a route's MTU only if it is
/// (include/net/ip6_route.h, `ip6_dst_mtu_maybe_forward`). IPv4 always does, and a locked one would let it fragment what the node
/// itself sends (include/net/ip.h, `ip_dont_fragment`).
const LOCKED_MTU: u32 = 1 << RTAX_MTU;

/// A route, compared as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The destination, host bits clear.
    pub destination: IpNetwork,
    /// The metric: the lowest of the routes to the destination is used. 0 is the family's default.
    pub metric: u32,
    /// Its target.
    pub target: Target,
    /// Its origin (`RTPROT_*`): the mark of ownership.
    pub protocol: u8,
}

/// The target of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// To a nexthop object, by id.
    Nexthop(u32),
    /// To a nexthop object, for packets of no more than this many bytes (`RTAX_MTU`), whatever the device's MTU is.
    NexthopWithin {
        /// Its id.
        id: u32,
        /// The largest packet, in bytes.
        mtu: u32,
    },
    /// On-link, on the device with this index.
    Device(u32),
    /// Through a gateway on the link of the device, whatever the device's addresses (`onlink`).
    Gateway {
        /// The gateway, of the destination's family.
        gateway: IpAddr,
        /// Index of the device.
        device: u32,
    },
    /// Unreachable: the sender gets an ICMP error.
    Unreachable,
    /// Blackhole: dropped silently.
    Blackhole,
    /// None of the above: never desired, so it is replaced.
    Foreign,
}

impl Route {
    /// Creates this route, or replaces in place the one with the same destination.
    pub fn replace(&self) -> Request<Message> {
        let message = RouteNetlinkMessage::NewRoute(self.message());
        Request::new(format!("set route {self}"), message.into(), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// As [`Route::replace`], in place of a route with metrics. With a nexthop object, the kernel takes a route without
    /// metrics as equal to one with some (net/ipv4/fib_semantics.c, `fib_find_info_nh`); a path MTU of 0 means none.
    pub fn replace_bare(&self) -> Request<Message> {
        let mut message = self.message();
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(0)]));
        let message = RouteNetlinkMessage::NewRoute(message);
        Request::new(format!("set route {self}"), message.into(), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Creates this route; "File exists" when there is one with the same destination.
    pub fn add(&self) -> Request<Message> {
        let message = RouteNetlinkMessage::NewRoute(self.message());
        Request::new(format!("add route {self}"), message.into(), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Appends this route to those with the same destination and metric through other devices.
    pub fn append(&self) -> Request<Message> {
        let message = RouteNetlinkMessage::NewRoute(self.message());
        Request::new(format!("add route {self}"), message.into(), NLM_F_CREATE | NLM_F_APPEND)
    }

    /// As [`Route::replace`], in another table than the main one.
    pub fn replace_in(&self, table: u32) -> Request<Message> {
        let mut message = self.message();
        // The header can hold only the first 255 tables.
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.attributes.push(RouteAttribute::Table(table));
        let message = RouteNetlinkMessage::NewRoute(message);
        Request::new(format!("set route {self} of table {table}"), message.into(), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes this route: one with the same destination and protocol, so never a foreign one.
    pub fn delete(&self) -> Request<Message> {
        let mut message = self.message();
        let identity = |attribute: &RouteAttribute| {
            matches!(attribute, RouteAttribute::Destination(_) | RouteAttribute::Priority(_))
        };
        message.attributes.retain(identity);
        message.header.scope = RouteScope::NoWhere;
        message.header.kind = RouteType::Unspec;
        message.header.flags = RouteFlags::empty();
        Request::removal(format!("remove route {self}"), RouteNetlinkMessage::DelRoute(message).into())
    }

    /// Whether the route that the kernel looked up is this one. Among IPv6 routes with the same nexthop object it
    /// returns the one that was used first (net/ipv6/route.c, `rt6_get_pcpu_route`), which has the same target.
    fn is_like(&self, other: &Self) -> bool {
        let same_way = self.target == other.target && self.protocol == other.protocol;
        let by_nexthop = matches!(self.target, Target::Nexthop(_) | Target::NexthopWithin { .. });
        same_way && (self.destination == other.destination || by_nexthop)
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family::of(self.destination.ip());
        header.destination_prefix_length = self.destination.prefix();
        header.table = RouteHeader::RT_TABLE_MAIN;
        header.protocol = RouteProtocol::from(self.protocol);
        header.scope = RouteScope::Universe;
        header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Destination(address(self.destination.network())));
        if self.metric != 0 {
            message.attributes.push(RouteAttribute::Priority(self.metric));
        }
        match self.target {
            Target::Nexthop(id) => message.attributes.push(RouteAttribute::NhId(id)),
            Target::NexthopWithin { id, mtu } => {
                message.attributes.push(RouteAttribute::NhId(id));
                let mut metrics = vec![RouteMetric::Mtu(mtu)];
                if self.destination.is_ipv6() {
                    metrics.insert(0, RouteMetric::Lock(LOCKED_MTU));
                }
                message.attributes.push(RouteAttribute::Metrics(metrics));
            }
            Target::Device(device) => {
                header.scope = RouteScope::Link;
                message.attributes.push(RouteAttribute::Oif(device));
            }
            Target::Gateway { gateway, device } => {
                header.flags = RouteFlags::Onlink;
                message.attributes.push(RouteAttribute::Gateway(address(gateway)));
                message.attributes.push(RouteAttribute::Oif(device));
            }
            Target::Unreachable => header.kind = RouteType::Unreachable,
            Target::Blackhole => header.kind = RouteType::BlackHole,
            Target::Foreign => header.kind = RouteType::Unspec,
        }
        message
    }
}

/// A route in a message from the kernel, read in place (`struct rtmsg`, uapi/linux/rtnetlink.h).
struct Reply {
    /// `None` for a route of an unknown family.
    route: Option<Route>,
    /// Whether it is for all packets to the destination (no source prefix, no TOS).
    plain: bool,
    /// Whether it is a [`Route`] and nothing more: no metrics, no preferred source.
    bare: bool,
    local: bool,
    device: Option<u32>,
}

const HEADER: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_NH_ID: u16 = 30;
/// Metrics (uapi/linux/rtnetlink.h).
const RTAX_LOCK: u16 = 1;
const RTAX_MTU: u16 = 2;

impl NetlinkDeserializable for Reply {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, DecodeError> {
        let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or("a route shorter than its header")?;
        let [family, prefix, source_prefix, tos, _, protocol, _, kind, ..] = *header;
        let plain = source_prefix == 0 && tos == 0;
        let mut bare = true;
        let Some(version) = IpVersion::BOTH.into_iter().find(|version| u8::from(version.family()) == family) else {
            return Ok(Self { route: None, plain, bare, local: false, device: None });
        };
        let mut destination = version.unspecified();
        let (mut nexthop, mut device, mut gateway, mut metric) = (None, None, None, 0);
        let (mut mtu, mut locked) = (None, 0);
        for (kind, value) in attributes(rest) {
            match kind {
                RTA_DST => destination = version.address(value).ok_or("a destination of another length")?,
                RTA_PRIORITY => metric = number(value).unwrap_or(0),
                RTA_NH_ID => nexthop = number(value),
                RTA_OIF => device = number(value),
                RTA_GATEWAY => gateway = version.address(value),
                RTA_PREFSRC => bare = false,
                RTA_METRICS => {
                    for (kind, value) in attributes(value) {
                        match kind {
                            RTAX_MTU => mtu = number(value),
                            RTAX_LOCK => locked = number(value).unwrap_or(0),
                            _ => bare = false,
                        }
                    }
                }
                _ => {}
            }
        }
        let kind = RouteType::from(kind);
        // An MTU is a part of the target where it is as we would set it.
        let lock = if version == IpVersion::V6 && mtu.is_some() { LOCKED_MTU } else { 0 };
        bare &= locked == lock && (mtu.is_none() || nexthop.is_some());
        let target = match (kind, nexthop, gateway, device) {
            (RouteType::Unreachable, ..) => Target::Unreachable,
            (RouteType::BlackHole, ..) => Target::Blackhole,
            (RouteType::Unicast, Some(id), ..) => match mtu {
                Some(mtu) => Target::NexthopWithin { id, mtu },
                None => Target::Nexthop(id),
            },
            (RouteType::Unicast, None, Some(gateway), Some(device)) => Target::Gateway { gateway, device },
            (RouteType::Unicast, None, None, Some(device)) => Target::Device(device),
            _ => Target::Foreign,
        };
        if version == IpVersion::V6 && metric == IPV6_DEFAULT_METRIC {
            metric = 0;
        }
        let destination = IpNetwork::new(destination, prefix).map_err(|error| error.to_string())?;
        let route = Route { destination, metric, target, protocol };
        Ok(Self { route: Some(route), plain, bare, local: kind == RouteType::Local, device })
    }
}

/// The routes of the main table that `protocol` installed, both families.
pub fn list(socket: &mut Socket, protocol: u8) -> Result<Vec<Route>> {
    listed(socket, protocol, |reply| reply.route)
}

/// As [`list`], for routes that are a [`Route`] and nothing more: one with another attribute (another metric, a preferred
/// source) is returned as [`Target::Foreign`], so that it differs from any desired one.
pub fn list_bare(socket: &mut Socket, protocol: u8) -> Result<Vec<Route>> {
    listed(socket, protocol, |reply| {
        let route = reply.route?;
        Some(if reply.bare { route } else { Route { target: Target::Foreign, ..route } })
    })
}

fn listed(socket: &mut Socket, protocol: u8, read: impl Fn(Reply) -> Option<Route>) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in family::BOTH {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::from(protocol);
        let query = Request::new("list routes", Message::from(RouteNetlinkMessage::GetRoute(message)), 0);
        let replies = match socket.dump_some(query, |reply: Reply| reply.plain.then(|| read(reply))) {
            // The kernel creates the table with its first route.
            Err(error) if error.is_gone() => Vec::new(),
            replies => replies?,
        };
        // A route for some packets to the destination is not the one for all of them, and is left out.
        for route in replies {
            routes.push(route.ok_or_else(|| Error::unreadable("list routes", "a route of no known family"))?);
        }
    }
    // Kernels before 4.20 ignore the filter, and a cloned or expired entry may be listed.
    routes.retain(|route| route.protocol == protocol);
    Ok(routes)
}

/// The result of a route lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// The destination of the route.
    pub destination: IpNetwork,
    /// Whether the address is local.
    pub local: bool,
    /// The outgoing device, where there is one.
    pub device: Option<u32>,
}

/// `RTM_F_FIB_MATCH` (uapi/linux/rtnetlink.h): return the route itself, not what it means for the address.
const FIB_MATCH: u32 = 0x2000;

/// The route that a packet to an address takes; `None` when there is none, or one that refuses.
pub fn lookup(socket: &mut Socket, asked: IpAddr) -> Result<Option<Lookup>> {
    match socket.get_all(vec![asking(asked)]) {
        Ok(replies) => {
            let found: Option<Reply> = replies.into_iter().flatten().next();
            let way =
                |Reply { route, local, device, .. }| Some(Lookup { destination: route?.destination, local, device });
            Ok(found.and_then(way))
        }
        Err(error) if error.is_unreachable() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a packet to the last address of a route's destination takes it: to verify a route that a dump lacks. When
/// any IPv6 route changes during a dump, the kernel restarts it and skips as many routes as it has sent, without a sign
/// (net/ipv6/ip6_fib.c, `fib6_dump_table`; measured: most dumps of 3,000 while another program adds and removes 300).
pub fn holds(socket: &mut Socket, route: &Route) -> Result<bool> {
    holds_for(socket, route, route.destination.broadcast())
}

/// Whether a packet to an address in a route's destination takes it.
pub fn holds_for(socket: &mut Socket, route: &Route, asked: IpAddr) -> Result<bool> {
    match socket.get_all(vec![asking(asked)]) {
        Ok(replies) => {
            let found: Option<Reply> = replies.into_iter().flatten().next();
            Ok(found.and_then(|reply| reply.route).is_some_and(|found| found.is_like(route)))
        }
        // A lookup of a route that refuses returns the error that a sender would get.
        Err(error) if error.errno() == Some(Errno::EHOSTUNREACH) => Ok(route.target == Target::Unreachable),
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(route.target == Target::Blackhole),
        Err(error) if error.is_unreachable() => Ok(false),
        Err(error) => Err(error),
    }
}

fn asking(asked: IpAddr) -> Request<Message> {
    let mut message = RouteMessage::default();
    message.header.address_family = family::of(asked);
    message.header.destination_prefix_length = family::host(asked).prefix();
    message.header.flags = RouteFlags::from_bits_retain(FIB_MATCH);
    message.attributes.push(RouteAttribute::Destination(address(asked)));
    Request::new(format!("look up {asked}"), Message::from(RouteNetlinkMessage::GetRoute(message)), 0)
}

/// Whether an address is local. For an IPv6 address that takes some time after it was added, even without duplicate
/// address detection: the kernel adds its route from a work queue (net/ipv6/addrconf.c).
pub fn is_local(socket: &mut Socket, asked: IpAddr) -> Result<bool> {
    Ok(lookup(socket, asked)?.is_some_and(|way| way.local))
}

/// The routes of all tables, both families.
pub fn list_all_tables(socket: &mut Socket) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in family::BOTH {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let query = Request::new("list routes", Message::from(RouteNetlinkMessage::GetRoute(message)), 0);
        routes.extend(socket.dump_some(query, |reply: Reply| reply.route)?);
    }
    Ok(routes)
}

/// The routes of the main table through a device, of the family of `like`, except those of `protocol`.
pub fn list_of_device(socket: &mut Socket, device: u32, like: IpAddr, protocol: u8) -> Result<Vec<Route>> {
    let mut message = RouteMessage::default();
    message.header.address_family = family::of(like);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.attributes.push(RouteAttribute::Oif(device));
    let operation = format!("list the routes of device {device}");
    let query = Request::new(operation, Message::from(RouteNetlinkMessage::GetRoute(message)), 0);
    let others = |reply: Reply| reply.route.filter(|route| route.protocol != protocol);
    match socket.dump_some(query, others) {
        Err(error) if error.is_gone() => Ok(Vec::new()),
        replies => replies,
    }
}

fn address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}
