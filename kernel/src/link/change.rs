//! Changes of a device in place, and its removal.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage};

use crate::link::settings::{Ipv4Setting, ipv4_attribute};
use crate::mac::Mac;
use crate::netlink::message::Message;
use crate::netlink::request::Request;

/// A device with a smaller MTU has no IPv6 (`IPV6_MIN_MTU`, uapi/linux/ipv6.h).
const IPV6_FROM: u32 = 1280;

/// Sets the MTU of a device.
pub fn set_mtu(index: u32, mtu: u32) -> Request<Message> {
    set(format!("set the MTU of device {index} to {mtu}"), index, vec![LinkAttribute::Mtu(mtu)])
}

/// Sets the link-layer address of a device.
pub fn set_mac(index: u32, mac: Mac) -> Request<Message> {
    set(format!("set the address of device {index} to {mac}"), index, vec![LinkAttribute::Address(mac.0.to_vec())])
}

/// Removes a device from the bridge, bond or VRF that it is a port of.
pub fn release(index: u32) -> Request<Message> {
    set(format!("take device {index} out of the one it is a port of"), index, vec![LinkAttribute::Controller(0)])
}

/// Renames a device; before Linux 6.2 it must be down.
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
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![ipv4_attribute(settings)])]));
    }
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Request::new(format!("bring {name} up"), RouteNetlinkMessage::SetLink(message).into(), 0)
}

/// Makes a device that is down an unnumbered router port: IPv4 settings, no generated link-local address, and an alias
/// of at most 255 bytes where one is given. (The kernel ignores all three at creation.) A device whose `mtu` is too
/// small for IPv6 has no IPv6 settings.
pub fn set_router_port(index: u32, mtu: u32, alias: Option<&str>, settings: &[(Ipv4Setting, u32)]) -> Request<Message> {
    let ipv6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let families =
        [AfSpecUnspec::Inet(vec![ipv4_attribute(settings)])].into_iter().chain((mtu >= IPV6_FROM).then_some(ipv6));
    let families = families.collect();
    let alias = alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned()));
    let attributes = alias.into_iter().chain([LinkAttribute::AfSpecUnspec(families)]).collect();
    set(format!("make device {index} a router port"), index, attributes)
}

/// Removes a device, and the other end with it when it is one end of a veth pair.
pub fn delete(name: &str) -> Request<Message> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    Request::removal(format!("remove device {name}"), RouteNetlinkMessage::DelLink(message).into())
}

/// Sets IPv4 settings of a device.
pub fn set_ipv4(index: u32, name: &str, settings: &[(Ipv4Setting, u32)]) -> Request<Message> {
    let families = vec![AfSpecUnspec::Inet(vec![ipv4_attribute(settings)])];
    let list: Vec<_> = settings.iter().map(|(setting, value)| format!("{setting:?} {value}")).collect();
    let operation = format!("set {} of {name}", list.join(", "));
    set(operation, index, vec![LinkAttribute::AfSpecUnspec(families)])
}

fn set(operation: String, index: u32, attributes: Vec<LinkAttribute>) -> Request<Message> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    Request::new(operation, RouteNetlinkMessage::SetLink(message).into(), 0)
}
