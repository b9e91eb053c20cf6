//! A VXLAN device: its settings, and its creation.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};

use crate::mac::Mac;
use crate::netlink::message::Message;
use crate::netlink::request::Request;

/// The settings of a VXLAN device that are fixed at its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// The UDP port that it sends to and listens on.
    pub port: u16,
    /// Whether the tunnel attributes come from the route (`external`) instead of the device.
    pub external: bool,
    /// Whether it accepts only listed VNIs (`vnifilter`).
    pub vni_filter: bool,
    /// Whether it learns peers from what it receives.
    pub learning: bool,
    /// Whether it accepts outer IPv6 packets with a checksum of zero.
    pub zero_checksum6_received: bool,
}

impl Vxlan {
    /// Creates a VXLAN device with these settings, down.
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

    /// Reads the settings back.
    pub(super) fn parse(data: &[InfoVxlan]) -> Self {
        let mut vxlan =
            Self { port: 0, external: false, vni_filter: false, learning: false, zero_checksum6_received: false };
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
