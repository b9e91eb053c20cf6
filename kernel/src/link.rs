//! A network device: reading one by name or index, making the three kinds we own (veth pairs, the ifb devices beside
//! them, one VXLAN device), changing one in place, removing one.
//!
//! Below it: `settings` (a bridge port's and a device's settings), `vni_filter`, `moved` (devices taken to another
//! namespace), `removal`. What may not live here: addresses, neighbours and queueing disciplines on a device.

pub mod moved;
pub mod removal;
pub mod settings;
pub mod vni_filter;

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State,
};

use crate::netlink::message::Message;
use crate::{Error, Mac, Request, Result, Socket};

const IFLA_INET_CONF: u16 = 1;
const NESTED: u16 = 0x8000;

/// A device with a smaller MTU does not speak IPv6 (`IPV6_MIN_MTU`, uapi/linux/ipv6.h).
const IPV6_FROM: u32 = 1280;

/// A device as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is in operation: packets that are sent leave. For some time after a carrier has come they are dropped
    /// (RFC 2863, section 3.1.13).
    pub operational: bool,
    /// The largest packet it takes, in bytes.
    pub mtu: u32,
    /// Its link-layer address, where it is an Ethernet one.
    pub mac: Option<Mac>,
    /// Its kind (`veth`, `vxlan`, …); none for a physical device.
    pub kind: Option<String>,
    /// For one end of a veth pair, the index of the other end in its namespace.
    pub peer: Option<u32>,
    /// The device that it is a port of (a bridge, a bond, a VRF), by index: what it receives goes there.
    pub controller: Option<u32>,
    /// A free text, where one is set.
    pub alias: Option<String>,
    /// Its VXLAN settings, where it is one.
    pub vxlan: Option<Vxlan>,
    /// Whether it makes itself a link-local address when it comes up.
    pub makes_link_local: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
}

/// The settings of a VXLAN device that are fixed at its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// The UDP port it sends to and listens on.
    pub port: u16,
    /// Whether the tunnel comes from the route (`external`) instead of from the device.
    pub external: bool,
    /// Whether it accepts listed networks only (`vnifilter`).
    pub vni_filter: bool,
    /// Whether it learns peers from what it receives.
    pub learning: bool,
    /// Whether it accepts outer IPv6 packets with a checksum of zero.
    pub zero_checksum6_received: bool,
}

/// A veth pair to be made.
#[derive(Debug, Clone)]
pub struct Veth<'a> {
    /// The end that stays in the socket's namespace.
    pub host: End<'a>,
    /// The end that is born in another namespace.
    pub pod: End<'a>,
    /// That other namespace.
    pub namespace: BorrowedFd<'a>,
    /// The MTU of both ends, in bytes.
    pub mtu: u32,
}

/// One end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The device's name.
    pub name: &'a str,
    /// Its link-layer address, given at birth so that no other program has a reason to rewrite it.
    pub mac: Mac,
}

/// An ifb device to be made: what is redirected to it waits in its queue and goes on from where it was taken
/// (drivers/net/ifb.c).
#[derive(Debug, Clone, Copy)]
pub struct Ifb<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its link-layer address, given at birth for the same reason as a veth's; no packet bears it.
    pub mac: Mac,
    /// Its MTU, in bytes: that of the device whose packets it takes.
    pub mtu: u32,
    /// What a human reads beside it, at most 255 bytes.
    pub alias: Option<&'a str>,
}

/// The per-device IPv4 settings that can be set in the same message as others (uapi/linux/ip.h, `IPV4_DEVCONF_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Setting {
    /// Route packets that arrive here.
    Forwarding = 1,
    /// Believe ICMP redirects.
    AcceptRedirects = 4,
    /// 1: drop packets from an address that is not routed back through this device (RFC 3704, strict).
    ReversePathFilter = 8,
    /// Route what is sent to or from 127.0.0.0/8.
    RouteLocalnet = 26,
}

/// The device with this name; `None` when there is none.
pub fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    get(socket, format!("look up device {name}"), message)
}

/// The device with this index; `None` when there is none.
pub fn by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    get(socket, format!("look up device number {index}"), message)
}

/// The devices of the namespace.
pub fn list(socket: &mut Socket) -> Result<Vec<Link>> {
    let ask = Message::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    let mut links = Vec::new();
    for answer in socket.dump(Request::new("list devices", ask, 0))? {
        if let Message::Route(message) = answer
            && let RouteNetlinkMessage::NewLink(message) = *message
        {
            links.push(parse(message));
        }
    }
    Ok(links)
}

/// The devices of another namespace, by what this one calls it, each with the namespace that it was made in where that is yet
/// another.
pub(crate) fn list_of(socket: &mut Socket, namespace: i32) -> Result<Vec<(Link, Option<i32>)>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfNetnsId(namespace));
    let ask = Message::from(RouteNetlinkMessage::GetLink(message));
    let mut links = Vec::new();
    for answer in socket.dump(Request::new(format!("list devices of network namespace {namespace}"), ask, 0))? {
        if let Message::Route(message) = answer
            && let RouteNetlinkMessage::NewLink(message) = *message
        {
            let made_in = message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::LinkNetNsId(id) => Some(*id),
                _ => None,
            });
            links.push((parse(message), made_in));
        }
    }
    Ok(links)
}

fn get(socket: &mut Socket, operation: String, mut message: LinkMessage) -> Result<Option<Link>> {
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let request = Request::new(operation.clone(), Message::from(RouteNetlinkMessage::GetLink(message)), 0);
    let Some(answer) = socket.get(request)? else { return Ok(None) };
    if let Message::Route(message) = answer
        && let RouteNetlinkMessage::NewLink(message) = *message
    {
        return Ok(Some(parse(message)));
    }
    Err(Error::unreadable(operation, "not a device"))
}

pub(crate) fn parse(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        operational: false,
        mtu: 0,
        mac: None,
        kind: None,
        peer: None,
        controller: None,
        alias: None,
        vxlan: None,
        makes_link_local: true,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.operational = state == State::Up,
            LinkAttribute::Address(bytes) => link.mac = Mac::from_bytes(&bytes),
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::Controller(index) => link.controller = Some(index).filter(|index| *index != 0),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::AfSpecUnspec(families) => {
                let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
                let says =
                    |family: &AfSpecUnspec| matches!(family, AfSpecUnspec::Inet6(fields) if fields.contains(&none));
                link.makes_link_local = !families.iter().any(says);
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                        LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = Some(vxlan(&data)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn vxlan(data: &[InfoVxlan]) -> Vxlan {
    let mut vxlan =
        Vxlan { port: 0, external: false, vni_filter: false, learning: false, zero_checksum6_received: false };
    for field in data {
        match field {
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::CollectMetadata(on) => vxlan.external = *on,
            InfoVxlan::Vnifilter(on) => vxlan.vni_filter = *on,
            InfoVxlan::Learning(on) => vxlan.learning = *on,
            InfoVxlan::UDPZeroCsumRX(on) => vxlan.zero_checksum6_received = *on,
            _ => {}
        }
    }
    vxlan
}

impl Veth<'_> {
    /// Makes the pair, each end in its place and under its name, in one message: nothing is moved or renamed.
    pub fn create(&self) -> Request<Message> {
        let end = |end: End<'_>| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(end.name.to_owned()),
                LinkAttribute::Address(end.mac.0.to_vec()),
                LinkAttribute::Mtu(self.mtu),
                // The kernel would make a queue for each processor and put all but one away again, with all their files.
                LinkAttribute::NumTxQueues(1),
                LinkAttribute::NumRxQueues(1),
            ];
            message
        };
        let mut peer = end(self.pod);
        peer.attributes.push(LinkAttribute::NetNsFd(self.namespace.as_raw_fd()));
        let mut message = end(self.host);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let operation = format!("create the pair of {} and {}", self.pod.name, self.host.name);
        Request::new(operation, RouteNetlinkMessage::NewLink(message).into(), NLM_F_CREATE | NLM_F_EXCL)
    }
}

impl Ifb<'_> {
    /// Makes the device, down. The length of its queue is the driver's own choice (32 packets, which is where it holds the
    /// queueing discipline up; 0 would hold it up for ever).
    pub fn create(&self) -> Request<Message> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Address(self.mac.0.to_vec()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
        ];
        let request = RouteNetlinkMessage::NewLink(message).into();
        Request::new(format!("create ifb device {}", self.name), request, NLM_F_CREATE | NLM_F_EXCL)
    }
}

impl Vxlan {
    /// Makes a VXLAN device with these settings, down.
    pub fn create(&self, name: &str, mac: Mac, mtu: u32) -> Request<Message> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vec![
                    InfoVxlan::CollectMetadata(self.external),
                    InfoVxlan::Vnifilter(self.vni_filter),
                    InfoVxlan::Learning(self.learning),
                    InfoVxlan::Port(self.port),
                    InfoVxlan::UDPZeroCsumRX(self.zero_checksum6_received),
                ])),
            ]),
        ];
        let request = RouteNetlinkMessage::NewLink(message).into();
        Request::new(format!("create VXLAN device {name}"), request, NLM_F_CREATE | NLM_F_EXCL)
    }
}

/// Sets the MTU of a device.
pub fn set_mtu(index: u32, mtu: u32) -> Request<Message> {
    set(format!("set the MTU of device {index} to {mtu}"), index, vec![LinkAttribute::Mtu(mtu)])
}

/// Sets the link-layer address of a device.
pub fn set_mac(index: u32, mac: Mac) -> Request<Message> {
    set(format!("set the address of device {index} to {mac}"), index, vec![LinkAttribute::Address(mac.0.to_vec())])
}

/// Takes a device out of the bridge, the bond or the VRF that it is a port of.
pub fn release(index: u32) -> Request<Message> {
    set(format!("take device {index} out of the one it is a port of"), index, vec![LinkAttribute::Controller(0)])
}

/// Sets whether a VXLAN device learns peers from what it receives: the only one of its settings here that the kernel changes
/// in place (drivers/net/vxlan/vxlan_core.c, `vxlan_nl2conf`).
pub fn set_learning(index: u32, learning: bool) -> Request<Message> {
    let data = LinkInfo::Data(InfoData::Vxlan(vec![InfoVxlan::Learning(learning)]));
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), data])];
    let operation = format!("set learning of device {index} to {learning}");
    Request::new(operation, RouteNetlinkMessage::NewLink(message).into(), 0)
}

/// Gives a device another name; before Linux 6.2 it must be down.
pub fn rename(index: u32, name: &str) -> Request<Message> {
    set(format!("call device {index} {name}"), index, vec![LinkAttribute::IfName(name.to_owned())])
}

/// Brings a device up.
pub fn set_up(index: u32, name: &str) -> Request<Message> {
    set_up_with(index, name, &[])
}

/// Brings a device up, with IPv4 settings.
pub fn set_up_with(index: u32, name: &str, settings: &[(Ipv4Setting, u32)]) -> Request<Message> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if !settings.is_empty() {
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![ipv4(settings)])]));
    }
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Request::new(format!("bring {name} up"), RouteNetlinkMessage::SetLink(message).into(), 0)
}

/// Makes a device, while it is down, an unnumbered router port: IPv4 settings, no link-local address of its own making,
/// and an alias of at most 255 bytes where one is given. (The kernel ignores all three at creation.) One whose `mtu` is too
/// small for IPv6 has no addresses of it, and nothing to set.
pub fn set_router_port(index: u32, mtu: u32, alias: Option<&str>, settings: &[(Ipv4Setting, u32)]) -> Request<Message> {
    let ipv6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let families = [AfSpecUnspec::Inet(vec![ipv4(settings)])].into_iter().chain((mtu >= IPV6_FROM).then_some(ipv6));
    let families = families.collect();
    let alias = alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned()));
    let attributes = alias.into_iter().chain([LinkAttribute::AfSpecUnspec(families)]).collect();
    set(format!("make device {index} a router port"), index, attributes)
}

pub(crate) fn ipv4(settings: &[(Ipv4Setting, u32)]) -> AfSpecInet {
    let nested: Vec<_> =
        settings.iter().map(|(setting, value)| DefaultNla::new(*setting as u16, value.to_ne_bytes().into())).collect();
    let mut bytes = vec![0; nested.as_slice().buffer_len()];
    nested.as_slice().emit(&mut bytes);
    AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NESTED, bytes))
}

/// Removes a device, and the other end with it when it is one end of a veth pair.
pub fn delete(name: &str) -> Request<Message> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    Request::removal(format!("remove device {name}"), RouteNetlinkMessage::DelLink(message).into())
}

pub(crate) fn set(operation: String, index: u32, attributes: Vec<LinkAttribute>) -> Request<Message> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    Request::new(operation, RouteNetlinkMessage::SetLink(message).into(), 0)
}
