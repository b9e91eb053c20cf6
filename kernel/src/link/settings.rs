//! The IPv4 and IPv6 settings of a device. One query for each device, many in one system call, and no file of /proc.

use std::collections::BTreeMap;

use netlink_packet_core::{DefaultNla, Emitable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{AfSpecInet, AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkExtentMask, LinkMessage};

use crate::link::device::{self, Link};
use crate::netlink::error::{Error, Result};
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

const IFLA_INET_CONF: u16 = 1;
const NESTED: u16 = 0x8000;

/// The per-device IPv4 settings that can be set together in one message (uapi/linux/ip.h, `IPV4_DEVCONF_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Setting {
    /// Forward packets that arrive here.
    Forwarding = 1,
    /// Accept ICMP redirects.
    AcceptRedirects = 4,
    /// 1: drop packets whose source is not routed through this device (RFC 3704, strict).
    ReversePathFilter = 8,
    /// Accept packets that name their own route (RFC 791, source routing).
    AcceptSourceRoute = 9,
    /// Route packets to or from 127.0.0.0/8.
    RouteLocalnet = 26,
}

/// A device with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSettings {
    /// The device.
    pub link: Link,
    /// Its IPv4 settings; `None` when it has no IPv4.
    pub ipv4: Option<Ipv4>,
    /// Its IPv6 settings; `None` when the kernel has no IPv6.
    pub ipv6: Option<Ipv6>,
}

/// Settings of IPv4 (net/ipv4/conf/…), as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4 {
    /// `rp_filter`.
    pub reverse_path_filter: i32,
    /// `forwarding`.
    pub forwarding: i32,
    /// `accept_redirects`.
    pub accept_redirects: i32,
    /// `accept_source_route`.
    pub accept_source_route: i32,
    /// `route_localnet`.
    pub route_localnet: i32,
}

/// Settings of IPv6 (net/ipv6/conf/…), as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6 {
    /// `disable_ipv6`.
    pub disabled: i32,
    /// `accept_ra`.
    pub accept_advertisements: i32,
    /// `accept_redirects`.
    pub accept_redirects: i32,
}

impl Ipv4 {
    /// The value of a setting.
    pub fn get(&self, setting: Ipv4Setting) -> i32 {
        match setting {
            Ipv4Setting::ReversePathFilter => self.reverse_path_filter,
            Ipv4Setting::Forwarding => self.forwarding,
            Ipv4Setting::AcceptRedirects => self.accept_redirects,
            Ipv4Setting::AcceptSourceRoute => self.accept_source_route,
            Ipv4Setting::RouteLocalnet => self.route_localnet,
        }
    }
}

/// Those of the devices with these names that exist.
///
/// # Errors
/// When the kernel refuses.
pub fn by_names(socket: &mut Socket, names: &[&str]) -> Result<BTreeMap<String, DeviceSettings>> {
    let query = |name: &&str| {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName((*name).to_owned()));
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        Request::new(format!("look up device {name}"), Message::from(RouteNetlinkMessage::GetLink(message)), 0)
    };
    let mut devices = BTreeMap::new();
    for reply in socket.get_all(names.iter().map(query).collect())?.into_iter().flatten() {
        let Message::Route(message) = reply else { continue };
        let RouteNetlinkMessage::NewLink(message) = *message else {
            return Err(Error::unreadable("look up devices", "not a device"));
        };
        let device = parse(message);
        devices.insert(device.link.name.clone(), device);
    }
    Ok(devices)
}

fn parse(message: LinkMessage) -> DeviceSettings {
    let (mut ipv4, mut ipv6) = (None, None);
    for attribute in &message.attributes {
        let LinkAttribute::AfSpecUnspec(families) = attribute else { continue };
        for family in families {
            match family {
                AfSpecUnspec::Inet(fields) => ipv4 = ipv4.or(fields.iter().find_map(of_ipv4)),
                AfSpecUnspec::Inet6(fields) => ipv6 = ipv6.or(fields.iter().find_map(of_ipv6)),
                _ => {}
            }
        }
    }
    DeviceSettings { link: device::parse(message), ipv4, ipv6 }
}

fn of_ipv4(field: &AfSpecInet) -> Option<Ipv4> {
    let AfSpecInet::DevConf(found) = field else { return None };
    Some(Ipv4 {
        reverse_path_filter: found.rp_filter,
        forwarding: found.forwarding,
        accept_redirects: found.accept_redirects,
        accept_source_route: found.accept_source_route,
        route_localnet: found.route_localnet,
    })
}

fn of_ipv6(field: &AfSpecInet6) -> Option<Ipv6> {
    let AfSpecInet6::DevConf(found) = field else { return None };
    Some(Ipv6 {
        disabled: found.disable_ipv6,
        accept_advertisements: found.accept_ra,
        accept_redirects: found.accept_redirects,
    })
}

/// IPv4 settings as an attribute of a device.
pub(super) fn ipv4_attribute(settings: &[(Ipv4Setting, u32)]) -> AfSpecInet {
    let nested: Vec<_> =
        settings.iter().map(|(setting, value)| DefaultNla::new(*setting as u16, value.to_ne_bytes().into())).collect();
    let mut bytes = vec![0; nested.as_slice().buffer_len()];
    nested.as_slice().emit(&mut bytes);
    AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NESTED, bytes))
}
