//! A device as the kernel has it: looked up by name or by index, and listed.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage, State,
};

use crate::link::vxlan::Vxlan;
use crate::mac::Mac;
use crate::netlink::error::{Error, Result};
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// A device as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it is operational: packets leave. For some time after the carrier comes up they are dropped (RFC 2863,
    /// section 3.1.13).
    pub operational: bool,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Its link-layer address, where it is an Ethernet one.
    pub mac: Option<Mac>,
    /// Its kind (`veth`, `vxlan`, …); `None` for a physical device.
    pub kind: Option<String>,
    /// For one end of a veth pair, the index of the other end in its namespace.
    pub peer: Option<u32>,
    /// The index of the bridge, bond or VRF that it is a port of: what it receives goes there.
    pub controller: Option<u32>,
    /// Its alias, where one is set.
    pub alias: Option<String>,
    /// Its VXLAN settings, where it is one.
    pub vxlan: Option<Vxlan>,
    /// Whether it generates a link-local address when it comes up.
    pub makes_link_local: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
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
    let query = Message::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    let mut links = Vec::new();
    for reply in socket.dump(Request::new("list devices", query, 0))? {
        if let Message::Route(message) = reply
            && let RouteNetlinkMessage::NewLink(message) = *message
        {
            links.push(parse(message));
        }
    }
    Ok(links)
}

/// The devices of one kind.
pub fn list_of_kind(socket: &mut Socket, kind: &str) -> Result<Vec<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.into()))]));
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let query = Message::from(RouteNetlinkMessage::GetLink(message));
    let mut links = Vec::new();
    for reply in socket.dump(Request::new(format!("list devices of kind {kind}"), query, 0))? {
        if let Message::Route(message) = reply
            && let RouteNetlinkMessage::NewLink(message) = *message
        {
            links.push(parse(message));
        }
    }
    // Of a kind that the kernel does not know (yet) it lists all devices.
    links.retain(|link| link.kind.as_deref() == Some(kind));
    Ok(links)
}

/// The devices of another namespace, given by its id here, each with the id of the namespace that it was created in, if
/// that is another one.
pub(super) fn list_in(socket: &mut Socket, namespace: i32) -> Result<Vec<(Link, Option<i32>)>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfNetnsId(namespace));
    let query = Message::from(RouteNetlinkMessage::GetLink(message));
    let mut links = Vec::new();
    for reply in socket.dump(Request::new(format!("list devices of network namespace {namespace}"), query, 0))? {
        if let Message::Route(message) = reply
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
    let Some(reply) = socket.get(request)? else { return Ok(None) };
    if let Message::Route(message) = reply
        && let RouteNetlinkMessage::NewLink(message) = *message
    {
        return Ok(Some(parse(message)));
    }
    Err(Error::unreadable(operation, "not a device"))
}

pub(super) fn parse(message: LinkMessage) -> Link {
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
                        LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = Some(Vxlan::parse(&data)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}
